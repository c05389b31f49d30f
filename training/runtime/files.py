"""Files and folders that appear whole or not at all: written beside their place, then renamed to it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_LIBC = ctypes.CDLL(None)
_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux: renameat2(2)."""


@contextmanager
def atomic_file(path: Path, *, private: bool = False, durable: bool = True) -> Iterator[Path]:
    """Inside, an empty file beside `path` to write to, with the same suffix; at the end it is renamed to `path`.

    After an error `path` is as it was. Its bytes are on the disk before it gets the name, unless it is not `durable`:
    then a power cut may leave a file of another size. Folders above it are made; only its owner may read a `private`
    file. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _beside(path)
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
        yield unfinished
        if durable:
            _flush(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Inside, an empty folder beside `path` to write to; at the end it replaces the folder `path`, if there is one.

    Guarantees and errors are those of `atomic_file`.
    """
    unfinished, replaced = _beside(path), _beside(path)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        for file in unfinished.rglob("*"):
            if file.is_file():
                _flush(file)
        if path.exists() and _exchange(unfinished, path):
            return
        if path.exists():
            path.rename(replaced)
        try:
            unfinished.rename(path)
        except OSError:
            if replaced.exists():
                replaced.rename(path)
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a quota that is used up, led to the error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if any(words in str(error) for words in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


_FULL = ("No space left on device", "disk is full", "Disk quota exceeded", "PytorchStreamWriter failed writing")
"""What libraries say that raise errors of their own: safetensors, SQLite and torch, which gives no reason."""


def _exchange(one: Path, other: Path) -> bool:
    """Give each of two folders the other's name in one step, so that a process that is killed leaves no name without a
    folder; False where the system or the file system cannot."""
    if not hasattr(_LIBC, "renameat2"):
        return False
    return bool(_LIBC.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _beside(path: Path) -> Path:
    """A new hidden name in the same folder; cut short because a file name has at most 255 bytes."""
    return path.with_name(f".{path.stem[:40]}.{uuid4().hex[:12]}{path.suffix}")


def _flush(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
