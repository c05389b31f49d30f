"""What the README and the pages below docs/ say is there, is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from backend.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page: page.read_text() for page in PAGES}
README = TEXTS[ROOT / "README.md"]
EXAMPLES = "\n".join(block for text in TEXTS.values() for block in re.findall(r"```bash\n(.*?)```", text, re.S))
HELPS = "\n".join(re.sub(r"^\s+", "", command.epilog or "", flags=re.M) for command in main.commands.values())
COMMANDS = sorted(
    {line.strip() for line in re.findall(r"^(?:CAPTIONER_\S+ )?(captioner [^\n#`>]+)", EXAMPLES + "\n" + HELPS, re.M)}
)
TARGETS = {"setup", "up", "demo", "check", "test", "audit", "bench-smoke", "image-steps", "docs", "pictures"}
TARGETS |= {"secrets", "lock", "clean"}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_example_parses(line: str) -> None:
    group: click.Command = main
    arguments = shlex.split(line)[1:]
    while isinstance(group, click.Group) and arguments and arguments[0] in group.commands:
        group = group.commands[arguments.pop(0)]
    assert group is not main, f"there is no command {line}"
    context = click.Context(group, info_name=line)
    try:
        group.parse_args(context, arguments)
    except click.MissingParameter as error:
        pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.parametrize(
    "line", sorted(set(re.findall(r"`(?:\.venv/bin/)?(captioner [a-z][^`]*)`", "\n".join(TEXTS.values()))))
)
def test_every_command_in_the_text_is_there(line: str) -> None:
    group: click.Command = main
    words = line.split()[1:]
    while isinstance(group, click.Group) and words and words[0] in group.commands:
        group = group.commands[words.pop(0)]
    assert group is not main, f"there is no command {line}"
    flags = {flag for parameter in group.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= flags


def test_every_command_has_a_line_in_the_documentation() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert [name for name in main.commands if f"`captioner {name}" not in page] == []


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([\w-]+)", "".join(TEXTS.values()))) | TARGETS))
def test_every_make_target_is_there(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_of_make_targets_is_complete() -> None:
    argv = ["make", "--no-print-directory", "help"]
    printed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in printed.splitlines()} == TARGETS | {"help"}


def test_every_make_variable_reaches_the_command() -> None:
    given = ["IMAGES=/photos", "NO_STARTER=1", "CHECKPOINT=/checkpoint", "PORT=9191", "LS_PORT=8181", "DATA=/elsewhere"]
    argv = ["make", "--dry-run", "up", *given]
    printed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for value in ("/photos", "--no-starter", "/checkpoint", "9191", "8181", "/elsewhere"):
        assert value in printed


@pytest.mark.parametrize(("has_pip", "made"), [(True, True), (False, False)])
def test_uv_is_fetched_or_missed_clearly_where_python_has_no_venv(tmp_path: Path, has_pip: bool, made: bool) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    install = "mkdir -p .tools/lib/bin; echo uv > .tools/lib/bin/uv"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; *"pip --version") exit {int(not has_pip)};; '
        f'*"pip install"*) {install};; *) exit 9;; esac\n'
    )
    python.chmod(0o755)
    environ = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    argv = ["make", ".tools/bin/uv"]
    done = subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == made
    assert (tmp_path / ".tools" / "bin" / "uv").exists() == made
    assert ("install python3-venv" in done.stderr) != made


def test_what_was_left_half_done_does_not_stand_in_the_way() -> None:
    argv = ["make", "--dry-run", "--always-make", "demo", "SEED=7", "DATA=/elsewhere"]
    printed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "venv --quiet --allow-existing" in printed
    assert printed.index('rm -rf "/elsewhere/demo-7"') < printed.index("-m demo --seed 7")


def test_the_tree_names_only_what_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    trees = re.findall(r"```\n(backend|training)/\n(.*?)```", page, re.S)
    assert len(trees) == 2
    for package, tree in trees:
        entries = re.findall(r"^  ((?:[\w/]+(?:\.py|/) ?)+)", tree, re.M)
        names = {name.rstrip("/") for entry in entries for name in entry.split()}
        there = {path.name for path in (ROOT / package).iterdir()} - {"__init__.py", "__pycache__", "py.typed"}
        assert names == there


def test_the_readme_stays_short() -> None:
    assert README.count("\n") <= 150


def test_contributing_names_only_what_is_there() -> None:
    names = re.findall(r"`((?:backend|training|tests|labeling_config|docs|benchmarks|\.ci)/[^` *]*)`", TEXTS[PAGES[1]])
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists(), name
