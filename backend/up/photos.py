"""The files of a folder of photos: which are imported, and why the others are not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backend.domain.errors import ImageError
from backend.images.cache import extension
from backend.images.download import MAX_BYTES

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}
MAC_FOLDER = "__MACOSX"
"""What macOS adds to archives; its `._photo.jpg` are no photos."""


def listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files below the folder that end as photos do, by path; those that are hidden or macOS's own stand apart."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and os.path.isfile(path))
    hidden = [path for path in found if _is_hidden(path.relative_to(folder))]
    return [path for path in found if path not in set(hidden)], hidden


def fault(path: Path) -> str | None:
    """Why the file would never get a draft, in one sentence; None for a photo that can be read."""
    name = legible(path.name)
    try:
        if path.stat().st_size > MAX_BYTES:
            return f"The image {name} is larger than {MAX_BYTES / 2**20:g} MB."
        extension(path.read_bytes(), name, whole=True)
    except OSError as error:
        return f"The image {name} cannot be read: {error.strerror or error}."
    except ImageError as error:
        return str(error)
    return None


def left_out(hidden: Sequence[Path], faults: Sequence[str]) -> str:
    """One line about all files that are not imported."""
    kinds = []
    if hidden:
        kinds.append(f"{len(hidden)} hidden (the first: {legible(hidden[0].name)})")
    if faults:
        kinds.append(f"{len(faults)} that would get no draft (the first: {faults[0].rstrip('.')})")
    return f"Left out {' and '.join(kinds)}."


def legible(text: str) -> str:
    """The text as others can store and show it: bytes of a file name that are not UTF-8 become `\\udc…`."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == MAC_FOLDER for part in path.parts)
