"""A snapshot: the corrections of one retrain, frozen into a manifest that every attempt trains from."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backend.corrections import HELD_OUT_SHARE, Task, is_blind, normalise
from backend.errors import CaptionerError, ImageError, UnreachableImageError
from backend.images import Access, Images, LocalImage
from backend.pulse import Pulse
from backend.retrains import MAX_POSTPONED, Retrain
from backend.settings import Settings
from backend.store import Store, StoredCorrection
from training import manifest
from training.errors import DataError, TrainingError
from training.vocabulary import tokenize

log = logging.getLogger(__name__)

CHOOSING_SHARE = 0.1
"""Share of images whose corrections choose how far a candidate goes from the champion."""
FETCHING = 8  # images at once


class PostponedError(CaptionerError):
    """Images cannot be had at the moment; nothing has been frozen or trained."""


def take(settings: Settings, store: Store, retrain: Retrain, pulse: Pulse) -> Path:
    """The manifest of the retrain's corrections; made once, so that every attempt trains the same pairs.

    Raises PostponedError, or TrainingError when no correction can be used.
    """
    path = settings.data_dir / "snapshots" / retrain.snapshot / "manifest.jsonl"
    if not path.exists():
        manifest.save(_rows(settings, store, retrain, pulse), path)
    return path


def is_held_out(sha256: str, blind_share: float) -> bool:
    """Whether the corrections of this image judge models; they are never trained on."""
    return split_of(sha256, blind_share) in {manifest.BLIND, manifest.HELD_OUT}


def split_of(sha256: str, blind_share: float) -> str:
    """Which corrections judge (BLIND: as their tasks show no draft, and HELD_OUT), which choose among candidates (DEV),
    which are trained on: fixed by the image."""
    if is_blind(sha256, blind_share):
        return manifest.BLIND
    position = manifest.split_position(sha256)
    if position < HELD_OUT_SHARE:
        return manifest.HELD_OUT
    return manifest.DEV if position < HELD_OUT_SHARE + CHOOSING_SHARE else manifest.TRAIN


def _rows(settings: Settings, store: Store, retrain: Retrain, pulse: Pulse) -> list[manifest.Row]:
    """One row an image, with the captions of all its annotations, split by the hash of its content."""
    keeps = settings.deleted_tasks == "keep"
    corrections = store.corrections(retrain.project_id, up_to_seq=retrain.cutoff_seq, of_deleted_tasks=keeps)
    if not corrections:
        raise TrainingError(f"Project {retrain.project_id} has no corrections left to learn from.")
    project = store.get_project(retrain.project_id)
    access = Access(project.hostname, project.access_token) if project else None
    images = Images(settings)

    def found(correction: StoredCorrection) -> tuple[StoredCorrection, list[str], LocalImage] | Exception:
        task = Task(correction.task_id, correction.project_id, correction.image)
        try:
            if task.image is None:
                raise ImageError(f"Task {task.id} shows no image.")
            # Normalised again, because what was recorded long ago was so by the rules of then.
            texts = [text for text in map(normalise, correction.texts) if tokenize(text)]
            if not texts:
                raise DataError(f"Annotation {correction.annotation_id} has no word in it.")
            return correction, texts, images.local(task.image, task, access)
        except (ImageError, DataError) as error:
            return error
        except Exception as error:  # one correction must not keep all the others from being learnt
            log.exception("Annotation %d of project %d failed.", correction.annotation_id, retrain.project_id)
            return error

    hashes: dict[str, str] = {}
    rows: dict[str, manifest.Row] = {}
    missing: list[Exception] = []
    with ThreadPoolExecutor(FETCHING) as pool:
        for done, item in enumerate(pool.map(found, corrections), start=1):
            pulse.tell("collect", step=done, steps=len(corrections))
            if isinstance(item, Exception):
                missing.append(item)
                continue
            correction, texts, local = item
            if correction.image and correction.image_sha256 is None:
                hashes[correction.image] = local.sha256
            known = rows.get(local.sha256)
            references = tuple(dict.fromkeys((*(known.references if known else ()), *texts)))
            # of an image that somebody captioned, what others let stand counts fully too
            weight = max(known.weight if known else 0.0, correction.weight(settings.accepted_weight))
            split = split_of(local.sha256, settings.blind_share)
            rows[local.sha256] = manifest.Row(local.path, local.sha256, references, split, weight)
    store.add_image_hashes(retrain.project_id, hashes)
    away = [error for error in missing if isinstance(error, UnreachableImageError)]
    if away and retrain.postponed < MAX_POSTPONED:
        raise PostponedError(f"{len(away)} of {len(corrections)} images cannot be had now, the first: {away[0]}")
    if missing:
        log.warning("%d of %d corrections are left out, the first: %s", len(missing), len(corrections), missing[0])
    if not rows:
        raise TrainingError(f"None of the {len(corrections)} corrections can be used; the first: {missing[0]}")
    return list(rows.values())
