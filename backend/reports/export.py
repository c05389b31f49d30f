"""The corrections of a project as a file: JSON lines, CSV or COCO captions, each with the draft it was made from.

Captions to train on have the keys that `captioner train` reads (`references`, `caption`, `annotations`). Skipped,
deleted and superseded captions have the key `typed` only, so that nobody trains on them by mistake.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from backend.domain.errors import CaptionerError
from backend.domain.splits import split_in, split_of
from backend.images.archive import ImageStore
from backend.images.cache import is_whole
from backend.images.inline import named
from backend.settings import Settings
from backend.store.database import now
from backend.store.store import Store, StoredCorrection
from training.runtime.files import atomic_file

CURRENT, SKIPPED, PAST, DELETED = "current", "skipped", "past", "deleted"
UNKNOWN = ""
"""The split of a correction whose image was never fetched: the split depends on the image's content."""


@dataclass(frozen=True)
class Pair:
    """An annotation and its image file (None if it is not here). Only a CURRENT one is for training."""

    correction: StoredCorrection
    state: str
    split: str
    weight: float
    image: Path | None

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions to train on."""
        return self.correction.texts if self.state == CURRENT else ()

    @property
    def typed(self) -> tuple[str, ...]:
        return self.correction.typed or self.correction.texts

    def row(self, folder: Path | None, **captions: Any) -> dict[str, Any]:
        """A row of JSON lines and CSV: with these captions, its image as in a file in `folder`."""
        place = {"image": self.image_path(folder), "sha256": self.correction.image_sha256}
        return {**place, **captions, "split": self.split, "weight": self.weight, **self.metadata()}

    def metadata(self) -> dict[str, Any]:
        """What every format has besides image and captions."""
        correction = self.correction
        return {
            "draft": correction.draft_text,
            "draft_version": correction.draft_version,
            "accepted": bool(correction.texts) and correction.accepted,
            "origin": correction.origin,
            "state": self.state,
            "project": correction.project_id,
            "task": correction.task_id,
            "annotation": correction.annotation_id,
            "annotator": correction.annotator,
            "reasons": list(correction.reasons),
            "hints": list(correction.hints),
            "lead_time_seconds": correction.lead_time_seconds,
            "created_at": correction.created_at and correction.created_at.isoformat(),
            "updated_at": correction.updated_at.isoformat(),
            "source": correction.image and named(correction.image),
        }

    def image_path(self, folder: Path | None) -> str:
        """The image as named in a file in `folder`: a relative path if it is inside, else an absolute one.

        Without an image file, the reference in the task.
        """
        if self.image is None:
            return named(self.correction.image or "none")
        image = self.image.absolute()
        if folder is not None and image.is_relative_to(folder.absolute()):
            image = image.relative_to(folder.absolute())
        return image.as_posix()


def pairs(settings: Settings, store: Store, project_id: int, everything: bool = False) -> list[Pair]:
    """The project's usable corrections; with `everything` also skipped and deleted ones and past revisions.

    Raises CaptionerError when there are none.
    """
    keeps = settings.deleted_tasks == "keep"
    usable = store.corrections(project_id, of_deleted_tasks=keeps)
    annotations: list[tuple[StoredCorrection, str]] = [(each, CURRENT) for each in usable]
    if everything:
        current = {each.annotation_id for each in usable}
        annotations = [
            (each, _state(each.newest, each.deleted, each.annotation_id in current))
            for each in store.revisions(project_id)
        ]
    if not annotations:
        others = ", ".join(str(project.id) for project in store.projects() if project.id != project_id)
        known = f"; other projects are {others}" if others else ""
        raise CaptionerError(f"Project {project_id} has no corrections to export{known}.")
    images = ImageStore(settings)
    hashes = {each.image: each.image_sha256 for each, _ in annotations if each.image_sha256}
    exported = []
    places = store.places(project_id, list(filter(None, hashes.values())))
    drafted = {each.image_sha256 or hashes.get(each.image) for each in usable if each.drafted}
    for each, state in annotations:
        sha256 = each.image_sha256 or hashes.get(each.image)
        split = UNKNOWN
        if sha256:
            split = split_in(places.get(sha256) or split_of(sha256, settings.blind_share), sha256 in drafted)
        weight = each.weight(settings.accepted_weight)
        exported.append(Pair(replace(each, image_sha256=sha256), state, split, weight, images.here(sha256)))
    return exported


def with_copies(settings: Settings, pairs: Sequence[Pair], folder: Path) -> list[Pair]:
    """The pairs with their images copied into `folder`, each once, named by the hash of its content.

    Images that are not here are fetched from the image archive. Raises ImageError when it cannot be reached,
    CaptionerError when the folder cannot be written.
    """
    images = ImageStore(settings)
    copies: dict[str | None, Path | None] = {}
    for sha256 in dict.fromkeys(pair.correction.image_sha256 for pair in pairs):
        path = images.find(sha256)
        copies[sha256] = path and folder / path.name
        if path is None or sha256 is None or is_whole(folder / path.name, sha256):
            continue
        try:
            with atomic_file(folder / path.name) as unfinished:
                shutil.copyfile(path, unfinished)
        except OSError as error:
            raise CaptionerError(f"The image {path.name} cannot be copied to {folder}: {error.strerror}.") from error
    return [replace(pair, image=copies[pair.correction.image_sha256]) for pair in pairs]


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


def _state(newest: bool, deleted: bool, usable: bool) -> str:
    if not newest:
        return PAST
    return CURRENT if usable else DELETED if deleted else SKIPPED


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
