"""Calibrates scores: learns from a project's corrections which drafts annotators accept."""

from __future__ import annotations

import logging
from dataclasses import asdict
from math import ceil

import numpy as np

from backend.serving.scores import values
from backend.store.store import Store
from training.metrics.words import word_edits
from training.selection import calibration
from training.selection.calibration import LEAST

log = logging.getLogger(__name__)

MOST_EDITS = 1
"""Words that may be changed in a draft that counts as accepted; of several captions the nearest counts."""
GROWTH = 0.25
"""Share by which the corrections must have grown for chances to be learned anew."""


def is_due(store: Store, project_id: int) -> bool:
    """Whether there are enough corrections of drafts with signals that nothing was learned from yet."""
    last = store.newest_calibration(project_id, learned=False)
    if last is None:
        return store.count_answered(project_id, most=LEAST) == LEAST
    new = max(1, ceil(GROWTH * last.corrections))
    return store.count_answered(project_id, after_seq=last.seq, most=new) == new


def calibrate(store: Store, project_id: int) -> None:
    """Learn the project's chances anew, and measure on corrections that were left out how far they can be trusted.

    Nothing is stored where there are too few corrections, or none is new.
    """
    seq, last = store.revision(project_id), store.newest_calibration(project_id, learned=False)
    answered, count = store.answered_drafts(project_id), store.count_answered(project_id)
    if len(answered) < LEAST or (last and last.seq >= seq):
        return
    signals = values([each.signals for each in answered])
    accepted = np.array([min(word_edits(each.draft, text) for text in each.texts) <= MOST_EDITS for each in answered])
    learned = calibration.fit(signals, accepted)
    measured = calibration.measured(signals, accepted) if learned else None
    store.add_calibration(
        project_id,
        seq,
        corrections=count,
        accepted=int(accepted.sum()),
        calibration=learned.to_json() if learned else None,
        reliability=asdict(measured) if measured else None,
    )
    log.info("Project %d: scores are calibrated on %d corrections.", project_id, len(answered))
