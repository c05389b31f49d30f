"""Finds and reads the files of a data set. A failure is a DataError with one sentence; what is left out, a warning."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.errors import DataError

SHOWN = 8  # file names in a message
EXAMPLES = 3  # of a problem in a warning

logger = logging.getLogger(__name__)


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the relative paths `names` that exists in `folder`, or None."""
    return next((folder / name for name in names if os.path.exists(folder / name)), None)  # False for invalid names


def need(folder: Path, names: Sequence[str], whose: str) -> Path:
    """As `find`; if there is none, raises DataError with what `whose` needs and what `folder` contains."""
    path = find(folder, names)
    if path is None:
        raise DataError(f"{whose} needs {' or '.join(names)} in {folder}, which {_holds(folder)}.")
    return path


def need_photos(folder: Path, names: Sequence[str], whose: str) -> Path:
    """The folder of images that `need` finds; if folders of these names are nested in it, the innermost."""
    photos = need(folder, names, whose)
    while inner := find(photos, names):
        photos = inner
    return photos


def need_one(path: Path, patterns: Sequence[str], whose: str) -> Path:
    """`path` itself if it is a file, else the only file in that folder that matches one of `patterns`.

    Raises DataError when no file or several match.
    """
    if path.is_file():
        return path
    files = sorted({file for pattern in patterns for file in path.glob(pattern)})
    if not files:
        raise DataError(f"{whose} needs {' or '.join(patterns)} in {path}, which {_holds(path)}.")
    if len(files) > 1:
        names = _enumerated([file.relative_to(path).as_posix() for file in files])
        raise DataError(f"{path} holds {len(files)} files that {whose} could be read from, {names}; name one of them.")
    return files[0]


def read_lines(path: Path) -> list[str]:
    """The lines that are not blank. Raises DataError when the file cannot be read as UTF-8."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return [line for line in text.split("\n") if line.strip()]  # splitlines splits inside captions too


def read_json(path: Path) -> Any:
    """The parsed file; callers validate it inside `layout`. Raises DataError when it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not whole JSON: {error}.") from error


@contextmanager
def layout(path: Path, expected: str) -> Iterator[None]:
    """Inside, errors of accessing parsed content become a DataError: the file at `path` is not `expected`."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is not {expected}: {reason}.") from error


def text_of(value: Any) -> str:
    """`value`, which must be a string. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:60]!r} is not a text")
    return value


def warn(done: str, examples: Sequence[str], total: int, what: str) -> None:
    """Log "`done` 3 of `total` `what`: …" with some of the examples; nothing without examples."""
    if examples:
        more = f" and {len(examples) - EXAMPLES} more" if len(examples) > EXAMPLES else ""
        shown = "; ".join(examples[:EXAMPLES])
        logger.warning("%s %d of %d %s: %s%s.", done, len(examples), total, what, shown, more)


def _holds(folder: Path) -> str:
    if not folder.is_dir():
        return "is not a folder" if folder.exists() else "is not there"
    names = sorted(path.name for path in folder.iterdir())
    return f"holds {_enumerated(names)}" if names else "is empty"


def _enumerated(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
