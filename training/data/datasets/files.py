"""Finding and reading the files of a data set; what is missing or damaged is said in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.errors import DataError

SHOWN = 8  # names of files in a message


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the relative paths `names` that is in `folder`, None where none is."""
    return next((folder / name for name in names if os.path.exists(folder / name)), None)  # False for any odd name


def need(folder: Path, names: Sequence[str], whose: str) -> Path:
    """As `find`, but raises DataError with what `whose` needs and what `folder` has in its place."""
    found = find(folder, names)
    if found is None:
        raise DataError(f"{whose} needs {' or '.join(names)} in {folder}, which {_holds(folder)}.")
    return found


def need_photos(folder: Path, names: Sequence[str], whose: str) -> Path:
    """The folder of images that `need` finds, or the innermost where archives were unpacked into one another."""
    found = need(folder, names, whose)
    while inner := find(found, names):
        found = inner
    return found


def need_one(path: Path, patterns: Sequence[str], whose: str) -> Path:
    """`path` itself where it is a file, else the one file of that folder that matches one of `patterns`.

    Raises DataError where none matches or more than one.
    """
    if path.is_file():
        return path
    found = sorted({file for pattern in patterns for file in path.glob(pattern)})
    if not found:
        raise DataError(f"{whose} needs {' or '.join(patterns)} in {path}, which {_holds(path)}.")
    if len(found) > 1:
        names = _enumerated([file.relative_to(path).as_posix() for file in found])
        raise DataError(f"{path} holds {len(found)} files that {whose} could be read from, {names}; name one of them.")
    return found[0]


def read_lines(path: Path) -> list[str]:
    """The lines that are not blank. Raises DataError where the file cannot be read as UTF-8."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return [line for line in text.split("\n") if line.strip()]  # splitlines would split captions as well


def read_json(path: Path) -> Any:
    """What the file holds; callers check it inside `layout`. Raises DataError where it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not whole JSON: {error}.") from error


@contextmanager
def layout(path: Path, expected: str) -> Iterator[None]:
    """Inside, whatever does not fit the layout that was `expected` of the file at `path` is one DataError."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is not {expected}: {reason}.") from error


def text_of(value: Any) -> str:
    """`value`, which must be a string. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:60]!r} stands where a text should")
    return value


def _holds(folder: Path) -> str:
    if not folder.is_dir():
        return "is not a folder" if folder.exists() else "is not there"
    names = sorted(path.name for path in folder.iterdir())
    return f"holds {_enumerated(names)}" if names else "is empty"


def _enumerated(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
