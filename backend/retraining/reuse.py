"""Learned corrections, reused while candidates are judged as they are in serving: they are part of every version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from backend.settings import Settings
from backend.store.store import Store
from training.captioner.captioner import BATCH, pooled
from training.data.manifest import TRAIN, Row
from training.decoding.reuse import Correction, CorrectionMemory
from training.features.features import Inputs
from training.gate.gate import Evaluation

if TYPE_CHECKING:
    from training.captioner.captioner import Captioner


class LearnedCorrections:
    """The learned rows of a snapshot as a memory that champion and candidate share.

    It holds rows of split "train" only, so that no image that judges finds its own correction in it.
    """

    def __init__(self, settings: Settings, store: Store, project_id: int, rows: Sequence[Row]) -> None:
        self._store, self._project_id = store, project_id
        self._cache_dir = settings.data_dir / "features"
        self._rows = rows if settings.reuse == "on" else ()
        self._memories: dict[str, CorrectionMemory] = {}  # by encoder

    def reused(self, captioner: Captioner, rows: Sequence[Row], evaluate: Callable[[], Evaluation]) -> Evaluation:
        """The captioner's evaluation on `rows` as it would draft them: reranked with the learned corrections, and with
        copies for near duplicates."""
        if captioner.feature_space is None or not self._rows:
            return evaluate()
        memory, own = self._memory(captioner), captioner.retrieval
        captioner.retrieval = captioner.retrieval_with(*memory.written())
        try:
            evaluation = evaluate()
        finally:
            captioner.retrieval = own  # what a retrain starts from
        features = self.features(captioner, rows)
        copies = [memory.match(row.sha256, features.get(row.sha256)) for row in rows]
        pairs = zip(copies, evaluation.hypotheses, strict=True)
        return replace(evaluation, hypotheses=tuple(copy.caption if copy else text for copy, text in pairs))

    def features(self, captioner: Captioner, rows: Sequence[Row]) -> dict[str, bytes]:
        """Features of the rows' images, those that serving has stored; others are computed and stored for it."""
        assert captioner.feature_space
        encoder, store = captioner.feature_space.encoder, self._store
        known = store.features(self._project_id, encoder, [row.sha256 for row in rows])
        inputs = Inputs(captioner, [row for row in rows if row.sha256 not in known], self._cache_dir)
        hashes = list(dict.fromkeys(row.sha256 for row in inputs.rows))
        for first in range(0, len(hashes), BATCH):
            some = hashes[first : first + BATCH]
            with torch.inference_mode():
                found = {sha256: pooled(grid) for sha256, grid in zip(some, inputs.grid(some), strict=True)}
            store.add_features(self._project_id, encoder, found)
            known |= found
        return known

    def _memory(self, captioner: Captioner) -> CorrectionMemory:
        assert captioner.feature_space
        encoder = captioner.feature_space.encoder
        if encoder not in self._memories:
            memory = self._memories[encoder] = CorrectionMemory(captioner.feature_space)
            for number, row in enumerate(row for row in self._rows if row.split == TRAIN):
                memory.put(number, Correction(row.sha256, row.references[0], 0, number, accepted=row.weight < 1))
            memory.add_features(self.features(captioner, self._rows))  # serving needs those of all of them
        return self._memories[encoder]
