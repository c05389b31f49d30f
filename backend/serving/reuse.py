"""Corrections in memory: a near duplicate of a corrected image is drafted with its correction."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from backend.domain.corrections import Draft, normalise
from backend.serving.champions import Champions, Model
from backend.store.store import Store
from training.data.manifest import BLIND
from training.decoding.reuse import Correction, CorrectionMemory, SeenImages

if TYPE_CHECKING:
    from training.decoding.retrieval import RetrievalMemory

CERTAIN = 1.0
"""Score of a copied draft. Label Studio shows it in the tab of the prediction, and queues such tasks last."""
REBUILT_SHARE = 0.1
"""Share of the time that may be spent on making retrieval memories anew, which takes longer the larger they are."""

Key = TypeVar("Key", bound=Hashable)

_STATES = count(1)


class Reranking(NamedTuple):
    """What reranks the beam, and a number that no other one of this process has; 0 is the version's own memory."""

    state: int
    memory: RetrievalMemory | None


@dataclass(eq=False)
class _Kept:
    """The corrections of a project for a version, as of the event `seq` and the feature `newest`."""

    project_id: int
    version: str
    memory: CorrectionMemory
    seen: SeenImages | None
    seq: int = 0
    newest: int = 0
    retrieval: Reranking | None = None
    retrieval_seq: int = 0
    model: Model | None = None  # that it was made of: a version is loaded again where its checkpoint has changed
    retrieval_due: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)


class Reuse:
    """The corrections of every project that is served, followed from SQL. Threads may share it."""

    def __init__(self, store: Store, champions: Champions) -> None:
        self._store, self._champions = store, champions
        self._kept: dict[tuple[int, str], _Kept] = {}
        self._lock = threading.Lock()

    def shown(self, project_id: int, version: str, own: Mapping[Key, Draft]) -> dict[Key, Draft]:
        """The drafts to show in place of the version's own ones: corrections of the same or nearly the same images.

        A blind task keeps its empty draft, and an image of unknown content its own; a draft that was withheld as
        unlikely is replaced. The caller keeps `version` loaded.
        """
        kept = self._following(project_id, version)
        with kept.lock:
            if not len(kept.memory):
                return dict(own)
            hashes = [draft.image_sha256 for draft in own.values() if draft.image_sha256]
            space = kept.memory.space
            features = self._store.features(project_id, space.encoder, hashes) if space else {}
            blind = self._blind(project_id, own.values())
            return {
                key: draft if draft.image_sha256 in blind else _copy(draft, kept.memory, features)
                for key, draft in own.items()
            }

    def add_features(self, project_id: int, version: str, features: Mapping[str, bytes]) -> None:
        """Store features that the version has computed, by the hashes of their images."""
        if space := self._keeping(project_id, version).memory.space:
            self._store.add_features(project_id, space.encoder, features)

    def similarities(self, project_id: int, version: str, images: Sequence[tuple[int, bytes | None]]) -> list[float]:
        """How similar images are to the nearest corrected one of other tasks, each given by its task and its feature;
        nan where that is unknown."""
        kept = self._following(project_id, version)
        with kept.lock:
            return [kept.memory.similarity(feature, task_id) for task_id, feature in images]

    def retrieval(self, project_id: int, version: str) -> Reranking | None:
        """What reranks the beam for the project, as last made by `update`; None for the version's own."""
        return self._keeping(project_id, version).retrieval

    def update(self, project_id: int, version: str) -> None:
        """Follow the project's corrections, and make what reranks its beam anew where they have changed."""
        kept = self._following(project_id, version)
        began = time.monotonic()
        model = self._champions.model(version)
        is_made = kept.retrieval_seq == kept.seq and kept.model in (None, model)
        if kept.memory.space is None or is_made or began < kept.retrieval_due:
            return
        with kept.lock:
            seq, (corrections, features) = kept.seq, kept.memory.written()
        memory = model.retrieval_with(corrections, features)
        kept.retrieval = None if memory is None else Reranking(next(_STATES), memory)
        kept.retrieval_seq, kept.model = seq, model
        kept.retrieval_due = time.monotonic() + (time.monotonic() - began) / REBUILT_SHARE

    def alike(self, project_id: int, version: str, hashes: Sequence[str]) -> set[str]:
        """Drafted images of the project that are these images or may be near duplicates of one, by their hashes."""
        kept = self._following(project_id, version)
        if kept.seen is None or kept.memory.space is None:
            return set(hashes)
        with kept.lock:
            return kept.seen.alike(self._store.features(project_id, kept.memory.space.encoder, hashes).values()) | {
                *hashes
            }

    def _blind(self, project_id: int, own: Collection[Draft]) -> set[str]:
        """Images of these drafts whose tasks are blind."""
        empty = [draft.image_sha256 for draft in own if not draft.text and draft.image_sha256]
        places = self._store.places(project_id, empty) if empty else {}
        return {sha256 for sha256 in empty if places.get(sha256, BLIND) == BLIND}

    def _following(self, project_id: int, version: str) -> _Kept:
        """The project's corrections as SQL has them now."""
        kept, store = self._keeping(project_id, version), self._store
        with kept.lock:
            memory, seq = kept.memory, store.revision(project_id)
            if seq > kept.seq:
                changed = store.changed_corrections(project_id, kept.seq)
                for each in changed:
                    if each.deleted or not each.usable or each.image_sha256 is None:
                        memory.drop(each.annotation_id)
                    else:
                        text, at = normalise(each.texts[0]), each.updated_at.timestamp()
                        correction = Correction(each.image_sha256, text, each.task_id, at, each.accepted)
                        memory.put(each.annotation_id, correction)
                kept.seq = seq
                if kept.seen and memory.space:
                    lacking = memory.featureless(each.image_sha256 for each in changed if each.image_sha256)
                    memory.add_features(store.features(project_id, memory.space.encoder, sorted(lacking)))
            if kept.seen and memory.space:  # drafts bring new ones, and so does a retrain
                encoder = memory.space.encoder
                while (more := store.new_features(project_id, encoder, kept.newest))[1]:
                    kept.newest, found = more
                    memory.add_features(found)
                    kept.seen.add(found)
        return kept

    def _keeping(self, project_id: int, version: str) -> _Kept:
        with self._lock:
            key = project_id, version
            if key not in self._kept:
                served = {key: kept for key, kept in self._kept.items() if self._champions.serving(key[0]) == key[1]}
                space = self._champions.model(version).feature_space
                seen = SeenImages(space) if space else None
                self._kept = {**served, key: _Kept(project_id, version, CorrectionMemory(space), seen)}
            return self._kept[key]


def _copy(own: Draft, memory: CorrectionMemory, features: Mapping[str, bytes]) -> Draft:
    """The draft to show for this one of a version's own."""
    if own.image_sha256 is None:
        return own
    found = memory.match(own.image_sha256, features.get(own.image_sha256), own.task_id)
    if found is None:
        return own
    return replace(own, text=found.caption, score=CERTAIN, from_task=found.task_id, withheld=None, signals=None)
