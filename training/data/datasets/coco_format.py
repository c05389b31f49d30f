"""Captions in COCO's results format, which COCO's own tools read and nocaps takes for submissions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from training.data.manifest import Row
from training.errors import DataError


def export(rows: Sequence[Row], hypotheses: Iterable[str], path: Path) -> Path:
    """Write a caption for each row as `[{"image_id": 42, "caption": "a dog"}, …]`, in the order of the rows.

    A numeric id is written as a number, as in COCO; a row without an id gets its file's stem. Raises DataError when two
    rows have the same id.
    """
    results = [{"image_id": image_id, "caption": text} for image_id, text in zip(_ids(rows), hypotheses, strict=True)]
    path.write_text(json.dumps(results, ensure_ascii=False), encoding="utf-8")
    return path


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
