"""The command line itself: help, one-line errors, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from backend.cli import main

COMMANDS = sorted(main.commands)


def test_the_commands_promised_are_there() -> None:
    promised = {"up", "serve", "worker", "connect", "train", "evaluate", "caption"}
    assert promised | {"versions", "promote", "rollback", "status"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_carries_an_example(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"captioner {command}" in result.output.split("Example")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--port", "no"],
        ["up", "--images", "/no/such/folder"],
        ["up", "--checkpoint", "/no/such/checkpoint"],
        ["serve", "--device", "tpu"],
        ["status", "--database-url", "nonsense"],
        ["promote", "no-such-version"],
        ["rollback", "--project", "77"],
        ["connect", "--project", "1"],
        ["connect", "--project", "1", "--label-studio-url", "http://127.0.0.1:9", "--api-key", "x" * 40],
        ["evaluate", "/no/such/checkpoint", "--manifest", "/no/such/manifest"],
        ["caption", "/no/such/checkpoint", "photo.jpg"],
        ["train", "--dataset", "flickr8k", "--data-dir", "/no/such/folder", "--out", "x"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_input_is_one_clear_line(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error: ")


def test_the_command_line_starts_without_torch_or_flask() -> None:
    code = "import sys, backend.cli; print({'torch', 'flask', 'nltk', 'sqlalchemy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_worker_parent_never_imports_torch() -> None:
    code = "import sys, backend.queue; print({'torch', 'torchvision'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
