"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """For `preexec_fn`, or the process itself. On Linux the kernel sends it the signal `how` when its parent dies,
    however."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, how)
