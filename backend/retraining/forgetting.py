"""Forgets one person's captions, or one image, everywhere: in files as well as in the database.

Files come first: as long as the database knows what is to go, an interrupted run can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from backend.domain.splits import JUDGING
from backend.images import space
from backend.images.archive import ImageStore
from backend.images.sharing import Sharing
from backend.retraining import examples, snapshot
from backend.settings import Settings
from backend.store.keeping.forgetting import check_no_retrain, check_space, compact, erase, set_digest
from backend.store.keeping.traces import Traces
from backend.store.registry import NEW, ModelVersion, Registry
from backend.store.store import Store
from training.captioner import checkpoint
from training.data import manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.runtime.console import counted
from training.runtime.files import atomic_file


@dataclass(frozen=True)
class Learnt:
    """Versions by what they have of it: those that were trained on it, those trained from them, those whose index for
    retrieval has an image of it. Of these some are `serving`; `free` are those that may serve and have learned nothing.
    """

    trained: list[str]
    descended: list[str]
    indexed: list[str]
    serving: list[str]
    free: list[str]


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten."""

    annotations: int
    revisions: int
    drafts: int
    webhooks: int
    manifests: int
    examples: int
    images: int
    features: int


class Forgetting:
    """What is to be forgotten in a data folder: `learnt` tells before what `forget` cannot undo."""

    def __init__(self, settings: Settings, store: Store, traces: Sequence[Traces]) -> None:
        self._settings, self._store, self._traces = settings, store, traces
        self._registry = Registry(store)
        self._sharing = Sharing(settings, store)
        check_space(store)
        for each in traces:
            check_no_retrain(store, each.project_id)

    def learnt(self) -> Learnt:
        """The versions that have learned it."""
        self._sharing.fetch_all()  # what other machines have made is searched here
        versions = self._registry.versions()
        trained = {each.name for each in versions if self._has_learnt(each)}
        descended = {
            each.name
            for each in versions
            if each.name not in trained and {one.name for one in self._registry.lineage(each)} & trained
        }
        indexed = {each.name for each in versions if checkpoint.has_indexed(each.checkpoint, self._hashes)}
        learnt = trained | descended
        serving = learnt & set(self._registry.champions().values())
        projects = {None, *(each.project_id for each in self._traces)}
        free = {each.name for each in versions if each.project_id in projects and each.name not in learnt}
        return Learnt(*(sorted(some) for some in (trained, descended, indexed, serving, free)))

    def forget(self) -> Forgotten:
        """Forget it everywhere. Raises CaptionerError or TrainingError; a repeated run goes on."""
        self._clear_indexes()
        images = self._delete_images()
        shown = sum(self._clear_examples(version.checkpoint) for version in self._registry.versions())
        manifests = sum(
            self._rewrite(each, path)
            for each in self._traces
            for path in sorted((self._settings.data_dir / "snapshots").glob(f"{each.project_id}-*/*.jsonl"))
        )
        erased = [erase(self._store, each) for each in self._traces]
        self._sharing.share_again()
        images += self._delete_images()  # what was fetched again before the database knew
        features = sum(space.forget_features(self._settings, each) for each in self._whole_images)
        compact(self._store)
        names = ("annotations", "revisions", "drafts", "webhooks")
        counts = {name: sum(getattr(each, name) for each in erased) for name in names}
        return Forgotten(**counts, manifests=manifests, examples=shown, images=images, features=features)

    @property
    def _hashes(self) -> set[str]:
        """Images with a caption that goes."""
        return {sha256 for each in self._traces for sha256 in (*each.images, *each.captions)}

    @property
    def _whole_images(self) -> set[str]:
        return {sha256 for each in self._traces for sha256 in each.images}

    @property
    def _texts(self) -> set[str]:
        return {text for each in self._traces for text in each.texts}

    def _has_learnt(self, version: ModelVersion) -> bool:
        if version.manifest is None or not version.manifest.is_file():
            return False
        try:
            rows = manifest.load(version.manifest, hashes=False)
        except TrainingError:
            return False
        mine = [each for each in self._traces if version.project_id in (None, each.project_id)]
        return any(row.split not in JUDGING and any(_left(each, row) != row for each in mine) for row in rows)

    def _clear_indexes(self) -> None:
        """Take the images out of the checkpoints in the data folder, and let their digests follow."""
        for version in self._registry.versions():
            folder = version.checkpoint
            if folder.is_relative_to(self._settings.data_dir) and checkpoint.has_indexed(folder, self._hashes):
                checkpoint.check_digest(folder, version.digest)  # what somebody has exchanged is not sealed anew
                set_digest(self._store, version.name, None)
                checkpoint.forget_images(folder, self._hashes)
                set_digest(self._store, version.name, checkpoint.digest(folder) if version.digest else None)

    def _rewrite(self, traces: Traces, path: Path) -> bool:
        """Take what goes out of a manifest; whether there was any."""
        if not path.stat().st_size:
            return False
        rows = manifest.load(path, hashes=False)
        left = [row for row in (_left(traces, row) for row in rows) if row.references]
        if left == rows:
            return False
        if path.name == NEW:
            manifest.save(left, path)
        else:
            captions = sum(len(row.references) for row in rows) - sum(len(row.references) for row in left)
            snapshot.rewrite(path, left, captions, len(rows) - len(left))
        return True

    def _clear_examples(self, folder: Path) -> int:
        """Remove what people wrote from the examples of a version, and examples that then have nothing to show."""
        listed = folder / examples.FOLDER / examples.LIST
        if not listed.is_file():
            return 0
        known = examples.load(folder)
        left = []
        for each in known.examples:
            captions = tuple(text for text in each.captions if text not in self._texts)
            if captions and not any(sha256 in each.image for sha256 in self._whole_images):
                left.append(replace(each, captions=captions))
            elif each.picture:
                (listed.parent / Path(each.picture).name).unlink(missing_ok=True)
        changed = replace(known, examples=tuple(left))
        if changed != known:
            with atomic_file(listed) as unfinished:
                unfinished.write_text(json.dumps(asdict(changed), ensure_ascii=False, indent=2), encoding="utf-8")
        return len(known.examples) - len(left)

    def _delete_images(self) -> int:
        store = ImageStore(self._settings)
        return sum(store.forget(sha256) for sha256 in self._whole_images)


def _left(traces: Traces, row: Row) -> Row:
    """What is left of a row."""
    if row.sha256 in traces.images:
        return replace(row, references=())
    gone = traces.captions.get(row.sha256, ())
    return replace(row, references=tuple(text for text in row.references if text not in gone))


def about(learnt: Learnt) -> list[str]:
    """What it means for models, in sentences."""
    lines = []
    if learnt.trained or learnt.descended:
        names = ", ".join(learnt.trained) + (
            f" and, from them, {', '.join(learnt.descended)}" if learnt.descended else ""
        )
        lines.append(f"Versions have learned it: {names}. Their weights stay as they are, and may repeat it.")
    else:
        lines.append("No version has learned it.")
    if learnt.indexed:
        lines.append(f"It is taken out of the index for retrieval of {', '.join(learnt.indexed)}.")
    if learnt.serving:
        lines.append(
            f"{', '.join(learnt.serving)} serves, and a retrain goes on from its weights. To be rid of what they know, "
            + (
                f"promote a version that has not learned it ({', '.join(learnt.free)}): the next retrain begins there."
                if learnt.free
                else "begin with a new data folder: no other version is without it."
            )
        )
    return lines


def told(forgotten: Forgotten) -> str:
    """What was forgotten, in sentences."""
    parts = (
        f"{counted(forgotten.annotations, 'annotation')} ({counted(forgotten.revisions, 'revision')})",
        counted(forgotten.drafts, "draft"),
        f"the text of {counted(forgotten.webhooks, 'webhook')}",
        counted(forgotten.images, "image file"),
        counted(forgotten.features, "cached feature"),
        f"{counted(forgotten.examples, 'example')} of versions",
    )
    return (
        f"Erased: {', '.join(parts)}. {counted(forgotten.manifests, 'manifest')} changed.\n"
        "Label Studio, logs, exports, MLflow and backups are left to you: make a new backup into the same folder."
    )
