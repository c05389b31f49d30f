"""How the database names files: relative to the data folder, so that the folder may be moved or restored elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

FILES = ("checkpoint", "manifest")
"""Columns of a model version with such a name."""


def named(path: Path | None, data_dir: Path | None) -> str | None:
    """The name of a file or folder; one outside the data folder keeps its own path."""
    return (
        None
        if path is None
        else str(path.relative_to(data_dir) if data_dir and path.is_relative_to(data_dir) else path)
    )


def located(name: str | None, data_dir: Path | None) -> Path | None:
    """Where a named file is.

    Earlier releases stored absolute paths: where such a file is gone, and the data folder has one whose path ends like
    that, the folder was moved.
    """
    path = Path(name) if name else None
    if path is None or data_dir is None:
        return path
    if not path.is_absolute():
        return data_dir / path
    if not os.path.exists(path):  # Path's own raises where a folder above may not be entered
        for first in range(1, len(path.parts) - 1):
            moved = data_dir.joinpath(*path.parts[first:])
            if moved.exists():
                return moved
    return path
