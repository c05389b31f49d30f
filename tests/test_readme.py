"""What the README says is there, is there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from backend.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(
    set(re.findall(r"captioner (?:up|serve|worker|connect|train|evaluate|caption|promote)[^\n`#]*", README))
)


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


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make (\w+)", README)) | {"setup", "up", "demo", "test"}))
def test_every_make_target_is_there(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_make_variable_reaches_the_command() -> None:
    given = ["IMAGES=/photos", "CHECKPOINT=/checkpoint", "PORT=9191", "LS_PORT=8181", "DATA=/elsewhere"]
    argv = ["make", "--dry-run", "up", *given]
    printed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for value in ("/photos", "/checkpoint", "9191", "8181", "/elsewhere"):
        assert value in printed


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
