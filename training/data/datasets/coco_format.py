"""Captions as COCO's own tools read them: results, which nocaps takes for submissions as well, and references."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.data.manifest import Row


def export(rows: Sequence[Row], hypotheses: Iterable[str], path: Path) -> Path:
    """Write a caption for each row as `[{"image_id": 42, "caption": "a dog"}, …]`, in the order of the rows.

    An id that is a number is written as one, as in COCO; a row without an id has its file's stem. Raises DataError when
    two rows have the same id.
    """
    ids = _ids(rows)
    told = zip(ids, hypotheses, strict=True)
    return _write([{"image_id": image_id, "caption": text} for image_id, text in told], path)


def export_references(rows: Sequence[Row], path: Path) -> Path:
    """Write the rows' references as COCO's `captions_*.json`, which pycocotools reads; ids as in `export`."""
    ids = _ids(rows)
    told = [(image_id, text) for image_id, row in zip(ids, rows, strict=True) for text in row.references]
    listing = {
        "info": {"description": "Reference captions"},
        "licenses": [],
        "type": "captions",
        "images": [{"id": each, "file_name": row.image.name} for each, row in zip(ids, rows, strict=True)],
        "annotations": [
            {"id": number, "image_id": image_id, "caption": text} for number, (image_id, text) in enumerate(told, 1)
        ],
    }
    return _write(listing, path)


def _ids(rows: Sequence[Row]) -> list[int | str]:
    seen: dict[int | str, Path] = {}
    for row in rows:
        image_id = _number(row.image_id or row.image.stem)
        if image_id in seen:
            raise DataError(f"{seen[image_id]} and {row.image} have the same id {image_id!r}; COCO needs one for each.")
        seen[image_id] = row.image
    return list(seen)


def _number(image_id: str) -> int | str:
    """A whole number as one, but only where it is written as numbers are: 00123 is a name."""
    is_number = image_id.isascii() and image_id.isdecimal() and (image_id == "0" or image_id[0] != "0")
    return int(image_id) if is_number else image_id


def _write(value: Any, path: Path) -> Path:
    """Write beside `path` and rename, so that no reader sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return path
