"""Whether this machine has the device that settings name."""

from __future__ import annotations

import subprocess
import sys

from backend.domain.errors import SettingsError
from backend.system.processes import end_with_parent

_CHOICE = """
import sys
from training.errors import TrainingError
from training.runtime.device import choose
try:
    choose(sys.argv[1])
except TrainingError as error:
    sys.exit(str(error))
"""


def check(device: str) -> None:
    """Raises SettingsError where this machine lacks it.

    It is looked for in a child process: torch takes seconds to import, and CUDA does not survive a fork.
    """
    if device in {"auto", "cpu"}:
        return
    argv = [sys.executable, "-P", "-c", _CHOICE, device]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, preexec_fn=end_with_parent)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise SettingsError(f"CAPTIONER_DEVICE={device} (--device) cannot be used: {reason}")
