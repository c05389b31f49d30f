"""What the README says is there, is there."""

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
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(
    set(re.findall(r"captioner (?:up|serve|worker|connect|train|evaluate|compare|caption|promote)[^\n`#]*", README))
)
TARGETS = {"setup", "up", "demo", "check", "test", "bench-smoke", "lock", "clean"}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_parses(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    command = main.commands[name.rstrip(",")]
    if not arguments or "and" in arguments:
        return
    context = click.Context(command)
    try:
        command.parse_args(context, arguments)
    except click.MissingParameter:
        pytest.fail(f"{line}: an argument is missing")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([\w-]+)", README)) | TARGETS))
def test_every_make_target_is_there(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_of_make_targets_is_complete() -> None:
    argv = ["make", "--no-print-directory", "help"]
    printed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in printed.splitlines()} == TARGETS | {"help"}


def test_every_make_variable_reaches_the_command() -> None:
    given = ["IMAGES=/photos", "CHECKPOINT=/checkpoint", "PORT=9191", "LS_PORT=8181", "DATA=/elsewhere"]
    argv = ["make", "--dry-run", "up", *given]
    printed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for value in ("/photos", "/checkpoint", "9191", "8181", "/elsewhere"):
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
    tree = re.search(r"```\n(labeling_config/.*?)```", README, re.S)
    assert tree
    names = re.findall(r"(?<!\S)[\w/]+(?:\.py|\.md|/)(?!\S)", tree[1])
    assert len(names) > 30
    for name in names:
        assert list(ROOT.glob(name)) + list(ROOT.glob(f"*/{name}")), name


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
