"""What each correction did to its draft, as columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from backend.store.drafts.outcomes import CorrectedDraft
from training.metrics.alignment import character_edits, word_changes

CAPTIONS_AT_ONCE = 20_000
"""Pairs of draft and caption that are compared at once: all of them would take hundreds of megabytes."""

NOBODY = -1
"""The annotator of what no person made."""


@dataclass(frozen=True)
class Measures:
    """One row for each corrected draft of a version, in the order of annotation.

    Of several captions that one annotation gives, the one nearest to the draft counts: `words` and `characters` are
    its length. `unchanged`: the draft is a caption of the annotation. `seconds` is the lead time, nan where it is
    unknown.
    """

    task: np.ndarray
    version: np.ndarray
    annotator: np.ndarray
    unchanged: np.ndarray
    inserted: np.ndarray
    deleted: np.ndarray
    replaced: np.ndarray
    words: np.ndarray
    characters: np.ndarray
    character_edits: np.ndarray
    seconds: np.ndarray
    reasons: np.ndarray

    @property
    def edits(self) -> np.ndarray:
        return self.inserted + self.deleted + self.replaced

    def __len__(self) -> int:
        return len(self.version)

    def where(self, rows: np.ndarray) -> Measures:
        """The rows with these numbers, or those that are marked."""
        return Measures(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def is_drafted(each: CorrectedDraft) -> bool:
    """Whether it began as a draft with a version's words."""
    return bool(each.version and each.draft)


def measure(corrected: Sequence[CorrectedDraft], keystrokes: bool = True) -> Measures:
    """Of those that began as a draft with a version's words. Without `keystrokes`, in half of the time, all characters
    count as edited."""
    rows = [each for each in corrected if is_drafted(each)]
    unchanged = np.array([each.draft in each.texts for each in rows], dtype=bool)
    changes = np.zeros((len(rows), 6), dtype=np.int64)
    for start in range(0, len(rows), CAPTIONS_AT_ONCE):
        some = slice(start, start + CAPTIONS_AT_ONCE)
        changes[some] = _changes(rows[some], keystrokes)
    return Measures(
        task=np.array([each.task for each in rows], dtype=np.int64),
        version=np.array([each.version for each in rows], dtype=object),
        annotator=annotators(rows),
        unchanged=unchanged,
        inserted=changes[:, 0],
        deleted=changes[:, 1],
        replaced=changes[:, 2],
        words=changes[:, 3],
        characters=changes[:, 4],
        character_edits=changes[:, 5],
        seconds=seconds(rows),
        reasons=np.fromiter((each.reasons for each in rows), dtype=object, count=len(rows)),
    )


def annotators(rows: Sequence[CorrectedDraft]) -> np.ndarray:
    return np.array([NOBODY if each.annotator is None else each.annotator for each in rows], dtype=np.int64)


def seconds(rows: Sequence[CorrectedDraft]) -> np.ndarray:
    """Lead times; nan where Label Studio measured none, as in bulk actions."""
    return np.array([each.lead_time_seconds or np.nan for each in rows], dtype=float)


def _changes(rows: Sequence[CorrectedDraft], keystrokes: bool) -> np.ndarray:
    """Words inserted, deleted, replaced; words, characters and edited characters of the nearest caption: (N, 6)."""
    places = np.array([number for number, each in enumerate(rows) for _ in each.texts], dtype=np.int64)
    captions = [text for each in rows for text in each.texts]
    drafts = [rows[place].draft or "" for place in places.tolist()]
    changes = word_changes(drafts, captions)
    edits = changes[:, :3].sum(axis=1)
    order = np.lexsort((np.arange(len(places)), edits, places))  # of equally near ones the first
    nearest = order[np.unique(places[order], return_index=True)[1]]
    words = changes[nearest, 0] + changes[nearest, 2] + changes[nearest, 3]
    kept = [captions[number] for number in nearest.tolist()]
    characters = typed = np.array([*map(len, kept)], dtype=np.int64)
    if keystrokes:
        typed = character_edits([each.draft or "" for each in rows], kept)
    return np.column_stack([changes[nearest, :3], words, characters, typed])
