"""Who uses a data folder: processes that keep running share a lock on it, and a restore needs the folder for itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.domain.errors import CaptionerError


class InUseError(CaptionerError):
    """A data folder cannot be used now, or is used by others."""


def hold(folder: Path) -> int:
    """Use the folder until this process and its children end, or what is returned is released.

    Raises InUseError while it is being restored.
    """
    return _locked(folder, fcntl.LOCK_SH, f"The data folder {folder} is being restored: start again when that is done.")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Inside, nobody begins to use the folder. Raises InUseError where somebody uses it."""
    in_use = f"A captioner runs with the data folder {folder}: stop `captioner up`, `serve` and every `worker` first."
    held = _locked(folder, fcntl.LOCK_EX, in_use)
    try:
        yield
    finally:
        release(held)


def release(held: int) -> None:
    os.close(held)


def _locked(folder: Path, kind: int, otherwise: str) -> int:
    """A lock on the folder itself, which the system drops when its holders end, however."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InUseError(f"The data folder {folder} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InUseError(otherwise) from error
    except OSError:  # a network file system may have no locks on folders, and must serve all the same
        pass
    return descriptor
