import subprocess
import sys

import pytest

from backend.cli.main import main
from tests.unit.training.commands.conftest import Run
from training import cli

NAMES = [command.name for command in cli.commands]


@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "caption"])
def test_help_shows_an_example_on_a_line_of_its_own(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    shown = result.output.partition("Example:\n")[2].splitlines()
    assert shown
    assert any(line.strip().startswith(f"captioner {command} ") for line in shown)
    assert command in NAMES
    assert command in main.commands


def test_the_help_of_train_says_how_to_go_on_and_how_to_use_several_processes(run: Run) -> None:
    printed = " ".join(run("train", "--help").output.split())
    assert "resumed after its last saved epoch when the same command is run again" in printed
    assert "torchrun --nproc-per-node 4 -m training.cli train" in printed


def test_importing_the_commands_imports_no_torch() -> None:
    code = "import sys, training.cli; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"


def test_the_module_is_a_command() -> None:
    argv = [sys.executable, "-m", "training.cli", "compare", "one"]
    printed = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert printed.returncode == 2
    assert printed.stderr.splitlines()[-1] == "Error: Give at least two checkpoints to compare."
