"""The corrected pairs of a project as a file: JSON lines, a table, or a listing as COCO's; the draft beside each.

What may be learnt stands where the readers of `captioner train` look for it (`references`, `caption`, `annotations`);
what was skipped, deleted or put in other words since stands in `typed` only, so that nobody trains on it by mistake.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from backend.domain.errors import CaptionerError
from backend.domain.splits import split_of
from backend.images.archive import ImageStore
from backend.images.cache import is_whole
from backend.settings import Settings
from backend.store.database import now
from backend.store.store import Store, StoredCorrection
from training.runtime.files import atomic_file

CURRENT, SKIPPED, PAST, DELETED = "current", "skipped", "past", "deleted"
UNKNOWN = ""
"""The split of a correction whose image has never been fetched: its content decides."""


class ExportError(CaptionerError):
    """There is nothing to export, or the file cannot be written."""


@dataclass(frozen=True)
class Pair:
    """An annotation and its image: a local file, None where there is none. Only a CURRENT one may be learnt."""

    correction: StoredCorrection
    state: str
    split: str
    weight: float
    image: Path | None

    @property
    def captions(self) -> tuple[str, ...]:
        """What may be learnt."""
        return self.correction.texts if self.state == CURRENT else ()

    @property
    def typed(self) -> tuple[str, ...]:
        return self.correction.typed or self.correction.texts

    def about(self) -> dict[str, Any]:
        """What every format tells of it beside image and captions."""
        found = self.correction
        return {
            "draft": found.draft_text,
            "draft_version": found.draft_version,
            "accepted": bool(found.texts) and found.accepted,
            "origin": found.origin,
            "state": self.state,
            "project": found.project_id,
            "task": found.task_id,
            "annotation": found.annotation_id,
            "annotator": found.annotator,
            "lead_time_seconds": found.lead_time_seconds,
            "created_at": _iso(found.created_at),
            "updated_at": _iso(found.updated_at),
            "source": found.image,
        }

    def place(self, folder: Path | None) -> str:
        """The image for a file in `folder`: relative where it lies in it; where there is none, what the task names."""
        if self.image is None:
            return self.correction.image or "none"
        image = self.image.absolute()
        inside = folder is not None and image.is_relative_to(folder.absolute())
        return (image.relative_to(folder.absolute()) if inside and folder else image).as_posix()


def pairs(settings: Settings, store: Store, project_id: int, everything: bool = False) -> list[Pair]:
    """The project's usable corrections; with `everything` also skipped and deleted ones and past revisions.

    Raises ExportError when there are none.
    """
    keeps = settings.deleted_tasks == "keep"
    usable = store.corrections(project_id, of_deleted_tasks=keeps)
    found: list[tuple[StoredCorrection, str]] = [(each, CURRENT) for each in usable]
    if everything:
        current = {each.annotation_id for each in usable}
        found = [
            (each, _state(each.newest, each.deleted, each.annotation_id in current))
            for each in store.revisions(project_id)
        ]
    if not found:
        others = ", ".join(str(project.id) for project in store.projects() if project.id != project_id)
        there = f"; other projects are {others}" if others else ""
        raise ExportError(f"Project {project_id} has no corrections to export{there}.")
    images = ImageStore(settings)
    hashes = {each.image: each.image_sha256 for each, _ in found if each.image_sha256}
    exported = []
    for each, state in found:
        sha256 = each.image_sha256 or hashes.get(each.image)
        split = split_of(sha256, settings.blind_share) if sha256 else UNKNOWN
        weight = each.weight(settings.accepted_weight)
        exported.append(Pair(replace(each, image_sha256=sha256), state, split, weight, images.here(sha256)))
    return exported


def with_copies(settings: Settings, found: Sequence[Pair], folder: Path) -> list[Pair]:
    """The pairs with their images copied into `folder`, each once and by the name of its content.

    Those not here come from the image store. Raises ImageError when that cannot be reached, ExportError when the folder
    cannot be written.
    """
    images = ImageStore(settings)
    copies: dict[str | None, Path | None] = {}
    for sha256 in dict.fromkeys(pair.correction.image_sha256 for pair in found):
        path = images.find(sha256)
        copies[sha256] = path and folder / path.name
        if path is None or sha256 is None or is_whole(folder / path.name, sha256):
            continue
        try:
            with atomic_file(folder / path.name) as unfinished:
                shutil.copyfile(path, unfinished)
        except OSError as error:
            raise ExportError(f"The image {path.name} cannot be copied to {folder}: {error.strerror}.") from error
    return [replace(pair, image=copies[pair.correction.image_sha256]) for pair in found]


def save(chunks: Iterable[str], out: Path) -> None:
    """Write the file `out`, whole or not at all. Raises ExportError when it cannot be written."""
    try:
        with (
            atomic_file(out) as unfinished,
            unfinished.open("w", encoding="utf-8", errors="replace", newline="") as file,
        ):
            file.writelines(chunks)
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error.strerror}.") from error


def as_jsonl(found: Sequence[Pair], folder: Path | None) -> Iterator[str]:
    """A manifest with more keys, a line an annotation; images relative to `folder`."""
    for pair in found:
        row = {
            "image": pair.place(folder),
            "sha256": pair.correction.image_sha256,
            "references": list(pair.captions),
            "split": pair.split,
            "weight": pair.weight,
            "typed": list(pair.typed),
        }
        yield _json({**row, **pair.about()}) + "\n"


def as_csv(found: Sequence[Pair], folder: Path | None) -> Iterator[str]:
    """A table with a line an annotation, or one for each caption of an annotation that has several."""
    header: list[str] | None = None
    for pair in found:
        about = {**pair.about(), "accepted": "true" if pair.about()["accepted"] else "false"}
        for number, typed in enumerate(pair.typed or ("",)):
            row = {
                "image": pair.place(folder),
                "sha256": pair.correction.image_sha256,
                "caption": pair.captions[number] if number < len(pair.captions) else "",
                "split": pair.split,
                "weight": pair.weight,
                "typed": typed,
                **about,
            }
            if header is None:
                header = list(row)
                yield _line(header)
            yield _line(row.values())


def as_coco(found: Sequence[Pair], folder: Path | None) -> Iterator[str]:
    """A listing as COCO's `captions_*.json`, with more keys: images by their `file_name` in `folder`.

    What is not to be learnt stands under `other_annotations`.
    """
    images: dict[tuple[int, str | None], Pair] = {}
    for pair in found:
        images.setdefault(_image_of(pair), pair)
    ids = {image: number for number, image in enumerate(images, start=1)}
    project = found[0].correction.project_id
    info = {"description": f"Corrected captions of project {project}", "date_created": now().isoformat()}
    yield f'{{"info": {_json(info)}, "licenses": [], "type": "captions", "images": [\n'
    yield from _joined(_coco_image(ids[image], pair, folder) for image, pair in images.items())
    yield '], "annotations": [\n'
    told = [
        {"image_id": ids[_image_of(pair)], "caption": caption, "typed": list(pair.typed), **pair.about()}
        for pair in found
        for caption in pair.captions
    ]
    yield from _joined({"id": number, **each} for number, each in enumerate(told, start=1))
    yield '], "other_annotations": [\n'
    others = [pair for pair in found if not pair.captions]
    yield from _joined({"image_id": ids[_image_of(pair)], "typed": list(pair.typed), **pair.about()} for pair in others)
    yield "]}\n"


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
    """One image of the listing: a task's image may change, and then it is another."""
    return pair.correction.task_id, pair.correction.image_sha256 or pair.correction.image


def _coco_image(number: int, pair: Pair, folder: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {"id": number, "file_name": pair.place(folder)}
    if pair.image is not None:
        try:
            with Image.open(pair.image) as image:
                found |= {"width": image.width, "height": image.height}
        except OSError:
            pass  # damaged since it was fetched; the captions are exported all the same
    about = {"sha256": pair.correction.image_sha256, "split": pair.split, "task": pair.correction.task_id}
    return {**found, **about, "coco_url": pair.correction.image}


def _joined(entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    for number, entry in enumerate(entries):
        yield (",\n" if number else "") + _json(entry)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # what somebody typed may hold half a character, which no file can; escaped it stays what it was
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else json.dumps(value)


def _line(cells: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(list(cells))
    return buffer.getvalue()


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
