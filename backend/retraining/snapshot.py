"""A snapshot: the corrections of one retrain, frozen in a manifest that every attempt trains on."""

from __future__ import annotations

import json
import logging
import subprocess
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from backend.domain.corrections import Task, normalise
from backend.domain.errors import CaptionerError, ImageError, UnreachableImageError
from backend.domain.splits import split_in
from backend.images.archive import ImageStore
from backend.images.cache import Images, LocalImage, write
from backend.images.sharing import MANIFEST, RECORD, SNAPSHOT, Sharing
from backend.retraining.heartbeat import Heartbeat
from backend.settings import Settings
from backend.store.database import now
from backend.store.registry import Registry
from backend.store.retrains import MAX_POSTPONED, Retrain
from backend.store.store import Project, Store, StoredCorrection
from training.data import manifest
from training.errors import DataError, TrainingError
from training.runtime.files import atomic_file, is_full
from training.vocabulary import tokenize

log = logging.getLogger(__name__)

FETCHING = 8  # images at once


class PostponedError(CaptionerError):
    """Images cannot be fetched at the moment; nothing was trained."""


class Snapshot(NamedTuple):
    """A manifest file and its rows, with all images in the data folder."""

    manifest: Path
    rows: list[manifest.Row]


@dataclass(frozen=True)
class Record:
    """What a snapshot was frozen from, with the hashes that reveal a later change of its manifest.

    `cutoff` is the number of the last event in it, `parent` the champion of that moment, `revision` the git revision
    of the code, where it runs from a repository. `sha256` hashes the manifest file, `content` the training pairs.
    `forgotten` says what was taken out of it since: when, and how many captions and images.
    """

    snapshot: str
    project: int
    cutoff: int
    parent: str | None
    release: str
    revision: str | None
    created_at: str
    sha256: str
    content: str
    images: dict[str, int]
    captions: int
    forgotten: tuple[dict[str, Any], ...] = ()


def take(settings: Settings, store: Store, retrain: Retrain, heartbeat: Heartbeat, images: ImageStore) -> Snapshot:
    """The snapshot of the retrain's corrections; frozen once, so that every attempt trains on the same pairs.

    Raises PostponedError or UnreachableImageError when its images cannot be fetched now, else TrainingError when no
    correction can be used, or the manifest or an image has changed since.
    """
    sharing = Sharing(settings, store)
    path = settings.data_dir / "snapshots" / retrain.snapshot / MANIFEST
    if not path.exists():  # an attempt on another machine may have frozen it
        sharing.fetch(path.parent)
    if not path.exists():
        found = _rows(settings, store, retrain, heartbeat, images)
        images.keep(found, lambda done, total: heartbeat.report("collect", step=done, steps=total))
        heartbeat.renew()
        _freeze(found, path, retrain, Registry(store))
    sharing.share(path.parent, SNAPSHOT)
    if changed := change_of(path):
        raise DataError(changed)
    rows, lost = images.restored(manifest.load(path))
    if lost:
        raise DataError(
            f"{len(lost)} of {len(rows)} images of the snapshot {retrain.snapshot} are gone or damaged here and in "
            f"{images}, the first: {lost[0].image}; Start Training takes a new snapshot with what can be fetched."
        )
    return Snapshot(path, rows)


def record_of(path: Path) -> Record | None:
    """The record of the snapshot with this manifest; None for a snapshot without one.

    Raises DataError when it cannot be read.
    """
    beside = path.with_name(RECORD)
    try:
        return Record(**json.loads(beside.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"The record {beside} of a snapshot cannot be read: {error}.") from error


def change_of(path: Path) -> str | None:
    """A sentence saying that the manifest has changed since it was frozen, else None. Raises as `record_of`."""
    record = record_of(path)
    if record is None or manifest.hash_file(path) == record.sha256:
        return None
    return (
        f"The manifest {path} has been changed since it was frozen on {record.created_at[:16].replace('T', ' ')} UTC "
        f"(its SHA-256 is not {record.sha256[:16]}…): put it back from a backup, or delete its folder and train again."
    )


def _freeze(rows: Sequence[manifest.Row], path: Path, retrain: Retrain, registry: Registry) -> None:
    """Write the manifest and, before it gets its name, the record beside it."""
    champion = registry.champion(retrain.project_id)
    with atomic_file(path) as unfinished:
        manifest.save(rows, unfinished)
        record = Record(
            snapshot=retrain.snapshot,
            project=retrain.project_id,
            cutoff=retrain.cutoff_seq,
            parent=champion.name if champion else None,
            release=f"label-studio-captioner {version('label-studio-captioner')}",
            revision=_revision(),
            created_at=now().isoformat(timespec="seconds"),
            **_contents(rows, unfinished),
        )
        write(path.with_name(RECORD), json.dumps(asdict(record), indent=2).encode())


def rewrite(path: Path, rows: Sequence[manifest.Row], captions: int, images: int) -> None:
    """Replace the rows of a frozen manifest by those that are left, and note in its record what was taken out."""
    record = record_of(path)
    with atomic_file(path) as unfinished:
        manifest.save(rows, unfinished)
        if record:
            changed = replace(
                record,
                **_contents(rows, unfinished),
                forgotten=(
                    *record.forgotten,
                    {"at": now().isoformat(timespec="seconds"), "captions": captions, "images": images},
                ),
            )
            write(path.with_name(RECORD), json.dumps(asdict(changed), indent=2).encode())


def _contents(rows: Sequence[manifest.Row], path: Path) -> dict[str, Any]:
    """What a record says of the manifest at `path`."""
    return {
        "sha256": manifest.hash_file(path),
        "content": manifest.content_hash(rows),
        "images": dict(sorted(Counter(row.split for row in rows).items())),
        "captions": sum(len(row.references) for row in rows),
    }


def _revision() -> str | None:
    """The git revision of this code, with "-dirty" where files differ from it; None outside a repository."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None  # installed from a wheel; a repository around it is not ours
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL, timeout=10).strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _rows(
    settings: Settings, store: Store, retrain: Retrain, heartbeat: Heartbeat, kept: ImageStore
) -> list[manifest.Row]:
    """One row an image, with the captions of all its annotations, split by its place."""
    keeps = settings.deleted_tasks == "keep"
    corrections = store.corrections(retrain.project_id, up_to_seq=retrain.cutoff_seq, of_deleted_tasks=keeps)
    if not corrections:
        raise TrainingError(f"Project {retrain.project_id} has no corrections left to learn from.")
    project = store.get_project(retrain.project_id)
    images = Images(settings)

    def found(correction: StoredCorrection) -> tuple[StoredCorrection, list[str], LocalImage] | Exception:
        task = Task(correction.task_id, correction.project_id, correction.image)
        try:
            if task.image is None:
                raise ImageError(f"Task {task.id} shows no image.")
            # Normalised again, because the rules may have changed since it was recorded.
            texts = [text for text in map(normalise, correction.texts) if tokenize(text)]
            if not texts:
                raise DataError(f"Annotation {correction.annotation_id} has no word in it.")
            return correction, texts, _local(images, kept, task, project, correction.image_sha256)
        except (ImageError, DataError) as error:
            return error
        except Exception as error:  # one correction must not stop the retrain
            log.exception("Annotation %d of project %d failed.", correction.annotation_id, retrain.project_id)
            return error

    hashes: dict[str, str] = {}
    rows: dict[str, manifest.Row] = {}
    drafted: set[str] = set()
    missing: list[Exception] = []
    with ThreadPoolExecutor(FETCHING) as pool:
        for done, item in enumerate(pool.map(found, corrections), start=1):
            heartbeat.report("collect", step=done, steps=len(corrections))
            if isinstance(item, Exception):
                missing.append(item)
                continue
            correction, texts, local = item
            if correction.image and correction.image_sha256 is None:
                hashes[correction.image] = local.sha256
            known = rows.get(local.sha256)
            references = tuple(dict.fromkeys((*(known.references if known else ()), *texts)))
            # an image that one person captioned has full weight, although others accepted its draft
            weight = max(known.weight if known else 0.0, correction.weight(settings.accepted_weight))
            rows[local.sha256] = manifest.Row(local.path, local.sha256, references, weight=weight)
            if correction.drafted:
                drafted.add(local.sha256)
    store.add_image_hashes(retrain.project_id, hashes)
    away = [error for error in missing if isinstance(error, UnreachableImageError)]
    if away and (retrain.postponed < MAX_POSTPONED or any(map(is_full, away))):
        raise PostponedError(f"{len(away)} of {len(corrections)} images cannot be fetched now, the first: {away[0]}")
    if missing:
        log.warning("%d of %d corrections are left out, the first: %s", len(missing), len(corrections), missing[0])
    if not rows:
        raise TrainingError(f"None of the {len(corrections)} corrections can be used; the first: {missing[0]}")
    places = store.place(retrain.project_id, list(rows), settings.blind_share)
    return [replace(row, split=split_in(places[row.sha256], row.sha256 in drafted)) for row in rows.values()]


def _local(images: Images, kept: ImageStore, task: Task, project: Project | None, sha256: str | None) -> LocalImage:
    """The task's image, from the image store where its source no longer has it."""
    assert task.image is not None
    try:
        return images.local(task.image, task, project, whole=True)
    except ImageError:
        path = kept.find(sha256)
        if path is None or sha256 is None:
            raise
        return LocalImage(path, sha256)
