"""Whether this machine has the device that settings name."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from backend.domain.errors import SettingsError
from training.runtime.processes import end_with_parent

_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"

_CHOICE = """
import sys
from training.errors import TrainingError
from training.runtime.device import choose
try:
    choose(sys.argv[1])
except TrainingError as error:
    sys.exit(str(error))
"""


def has_gpu(pci: Path = _PCI) -> bool:
    """Whether an NVIDIA GPU is built in, be there a driver or not."""
    for folder in pci.glob("*"):
        with suppress(OSError):
            kind = (folder / "vendor").read_text().strip(), (folder / "class").read_text()[: len(_DISPLAY)]
            if kind == (_NVIDIA, _DISPLAY):
                return True
    return False


def is_gpu(device: str) -> bool:
    """Whether what settings name is a GPU that can be used here."""
    if device == "auto" and has_gpu():
        with suppress(SettingsError):
            check("cuda")
            return True
    return device.startswith("cuda")


def check(device: str, timeout_seconds: float | None = None) -> None:
    """Raises SettingsError where this machine lacks it, and TimeoutError where that is not known in time.

    It is looked for in a child process: torch takes seconds to import, and CUDA does not survive a fork.
    """
    if device in {"auto", "cpu"}:
        return
    argv = [sys.executable, "-P", "-c", _CHOICE, device]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, preexec_fn=end_with_parent, timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise SettingsError(f"CAPTIONER_DEVICE={device} (--device) cannot be used: {reason}")
