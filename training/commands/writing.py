"""Files that commands write: checked to be writable before the work begins, and written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from training.errors import TrainingError
from training.runtime.files import atomic_file


class Output(click.Path):
    """An argument that names a file or folder to write; refused when it cannot be written."""

    def __init__(self, *, folder: bool = False) -> None:
        super().__init__(path_type=Path, file_okay=not folder, dir_okay=folder, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        nearest = next(folder for folder in path.absolute().parents if os.path.exists(folder))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written, because {nearest} is no folder that may be written to.", param, ctx)
        return path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """`atomic_file`, whose OSError becomes a TrainingError."""
    try:
        with atomic_file(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror or error}.") from error


def write_json(path: Path, value: Any) -> None:
    """Write the value as indented JSON. Raises TrainingError."""
    with writing(path) as unfinished:
        unfinished.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
