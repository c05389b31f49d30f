"""The corrections of a project with their images and the drafts that they were made from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.domain.errors import CaptionerError
from backend.domain.splits import split_in, split_of
from backend.images.archive import ImageStore
from backend.images.cache import is_whole
from backend.images.inline import named
from backend.settings import Settings
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


def _state(newest: bool, deleted: bool, usable: bool) -> str:
    if not newest:
        return PAST
    return CURRENT if usable else DELETED if deleted else SKIPPED
