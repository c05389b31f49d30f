"""Scores: the chance that an annotator accepts a draft with at most one word changed, as far as corrections tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from backend.store.store import Store
from training.decoding.signals import Signals
from training.errors import DataError
from training.selection.calibration import Calibration

SIMILARITY = "correction_similarity"
"""The similarity of a draft's image to the nearest corrected one, which the captioner does not know."""
NAMES = (*Signals._fields, SIMILARITY)
"""The signals that chances are learned from, in the order of their columns."""


def known_signals(signals: Signals | None, similarity: float) -> dict[str, float] | None:
    """The signals of a draft as they are kept; None where the captioner gave none."""
    if signals is None:
        return None
    found = {**signals._asdict(), SIMILARITY: similarity}
    return {name: round(value, 6) for name, value in found.items() if math.isfinite(value)}


def values(signals: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Signals of drafts as rows (N, F), nan where one is unknown."""
    return np.array([[each.get(name, math.nan) for name in NAMES] for each in signals]).reshape(-1, len(NAMES))


class Scores:
    """The calibration of each project, followed from SQL. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._learned: dict[int, tuple[int, Calibration | None]] = {}

    def chances(self, project_id: int, signals: Sequence[Mapping[str, float] | None]) -> list[float | None]:
        """The chance of each draft; None without signals, and before the project has corrections to learn it from."""
        given = [each for each in signals if each is not None]
        learned = self._calibration(project_id) if given else None
        if learned is None:
            return [None] * len(signals)
        chances = iter(learned.chances(values(given)).tolist())
        return [None if each is None else next(chances) for each in signals]

    def _calibration(self, project_id: int) -> Calibration | None:
        """As SQL has it now: one number is read to see whether it has changed."""
        number = self._store.calibration_number(project_id)
        if self._learned.get(project_id, (0, None))[0] != number:
            self._learned[project_id] = number, self._read(project_id)
        return self._learned.get(project_id, (0, None))[1]

    def _read(self, project_id: int) -> Calibration | None:
        stored = self._store.newest_calibration(project_id)
        try:
            found = Calibration.from_json(stored.calibration) if stored else None
        except DataError:
            return None
        return found if found and len(found.weights) == len(NAMES) else None  # or another release learned it
