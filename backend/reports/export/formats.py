"""The corrections of a project as a file: JSON lines, CSV or COCO captions, each with the draft it was made from.

Captions to train on have the keys that `captioner train` reads (`references`, `caption`, `annotations`). Skipped,
deleted and superseded captions have the key `typed` only, so that nobody trains on them by mistake.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from backend.domain.errors import CaptionerError
from backend.images.inline import named
from backend.reports.export.pairs import Pair
from backend.store.database import now
from training.runtime.files import atomic_file


def save(chunks: Iterable[str], out: Path) -> None:
    """Write the file `out`, whole or not at all. Raises CaptionerError when it cannot be written."""
    try:
        with (
            atomic_file(out) as unfinished,
            unfinished.open("w", encoding="utf-8", errors="replace", newline="") as file,
        ):
            file.writelines(chunks)
    except OSError as error:
        raise CaptionerError(f"{out} cannot be written: {error.strerror}.") from error


def as_jsonl(pairs: Sequence[Pair], folder: Path | None) -> Iterator[str]:
    """A manifest with more keys, one line per annotation; images relative to `folder`."""
    for pair in pairs:
        yield _json(pair.row(folder, references=list(pair.captions), typed=list(pair.typed))) + "\n"


def as_csv(pairs: Sequence[Pair], folder: Path | None) -> Iterator[str]:
    """A table with one row per caption, or one for an annotation without captions."""
    header: list[str] | None = None
    for pair in pairs:
        for caption, typed in zip_longest(pair.captions, pair.typed or ("",), fillvalue=""):
            row = pair.row(folder, caption=caption, typed=typed)
            row["accepted"] = str(row["accepted"]).lower()
            row |= {name: "; ".join(row[name]) for name in ("reasons", "hints")}
            if header is None:
                header = list(row)
                yield _line(header)
            yield _line(row.values())


def as_coco(pairs: Sequence[Pair], folder: Path | None) -> Iterator[str]:
    """COCO's `captions_*.json` with more keys; images by their `file_name` in `folder`.

    Annotations that are not for training are under `other_annotations`.
    """
    images: dict[tuple[int, str | None], Pair] = {}
    for pair in pairs:
        images.setdefault(_image_of(pair), pair)
    ids = {image: number for number, image in enumerate(images, start=1)}
    annotations = [
        {"image_id": ids[_image_of(pair)], "caption": caption, "typed": list(pair.typed), **pair.metadata()}
        for pair in pairs
        for caption in pair.captions
    ]
    others = [pair for pair in pairs if not pair.captions]
    description = f"Corrected captions of project {pairs[0].correction.project_id}"
    listing = {
        "info": {"description": description, "date_created": now().isoformat()},
        "licenses": [],
        "type": "captions",
        "images": [_coco_image(ids[image], pair, folder) for image, pair in images.items()],
        "annotations": [{"id": number, **each} for number, each in enumerate(annotations, start=1)],
        "other_annotations": [
            {"image_id": ids[_image_of(pair)], "typed": list(pair.typed), **pair.metadata()} for pair in others
        ],
    }
    yield _json(listing) + "\n"


FORMATS: dict[str, Callable[[Sequence[Pair], Path | None], Iterator[str]]] = {
    "jsonl": as_jsonl,
    "csv": as_csv,
    "coco": as_coco,
}


def _image_of(pair: Pair) -> tuple[int, str | None]:
    """The key of an image in the listing. A task whose image changes gets another entry."""
    return pair.correction.task_id, pair.correction.image_sha256 or pair.correction.image


def _coco_image(number: int, pair: Pair, folder: Path | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": number, "file_name": pair.image_path(folder)}
    if pair.image is not None:
        try:
            with Image.open(pair.image) as image:
                entry |= {"width": image.width, "height": image.height}
        except OSError:
            pass  # damaged since it was fetched; the captions are exported without its size
    details = {"sha256": pair.correction.image_sha256, "split": pair.split, "task": pair.correction.task_id}
    return {**entry, **details, "coco_url": pair.correction.image and named(pair.correction.image)}


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # a typed text may hold half a surrogate pair, which UTF-8 cannot encode; escaped it is kept
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else json.dumps(value)


def _line(cells: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(list(cells))
    return buffer.getvalue()
