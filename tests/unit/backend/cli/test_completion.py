"""`captioner completion`, and what a shell then proposes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from backend.cli.completion import PROGRAM, VARIABLE
from backend.cli.main import main
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import settings


@pytest.fixture
def data(tmp_path: Path) -> Path:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    for project in (3, 31, 4):
        store.save_project(project, "<View/>")
    for version in ("p3-v1", "p3-v2", "p4-v1"):
        Registry(store).register(ModelVersion(version, tmp_path))
    return tmp_path


def proposed(*words: str) -> list[str]:
    completing = ShellComplete(main, {}, PROGRAM, VARIABLE)
    return sorted(str(item.value) for item in completing.get_completions(list(words[:-1]), words[-1]))


def test_commands_options_versions_and_projects_are_proposed(data: Path) -> None:
    given = ("--data-dir", str(data))
    assert proposed("pro") == ["promote"]
    assert "--reason" in proposed("promote", "--r")
    assert proposed("promote", *given, "p3") == ["p3-v1", "p3-v2"]
    assert proposed("versions", *given, "show", "p4") == ["p4-v1"], "the flags of the group name the folder"
    assert proposed("quarantine", "release", *given, "") == ["p3-v1", "p3-v2", "p4-v1"]
    assert proposed("report", *given, "--project", "3") == ["3", "31"]
    assert proposed("completion", "") == ["bash", "fish", "zsh"]


@pytest.mark.parametrize("broken", ["absent", "damaged"])
def test_nothing_is_proposed_and_made_where_there_is_no_data(tmp_path: Path, broken: str) -> None:
    if broken == "damaged":
        (tmp_path / "captioner.db").write_text("no database")
    before = list(tmp_path.iterdir())
    assert proposed("promote", "--data-dir", str(tmp_path), "") == []
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_the_command(shell: str) -> None:
    printed = CliRunner().invoke(main, ["completion", shell])
    assert (printed.exit_code, f"{VARIABLE}={shell}_complete" in printed.output) == (0, True)


@pytest.mark.slow
def test_bash_completes_a_version(data: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / PROGRAM
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom backend.cli.main import main\n\nmain()\n")
    program.chmod(0o755)
    script = (
        f'eval "$({PROGRAM} completion bash)"; COMP_WORDS=({PROGRAM} promote p4) COMP_CWORD=2; '
        f'_{PROGRAM}_completion {PROGRAM}; echo "${{COMPREPLY[@]}}"'
    )
    environ = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": os.getcwd()}
    environ["CAPTIONER_DATA_DIR"] = str(data)
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("p4-v1\n", "")
