"""How a project's drafts change: what annotators keep and edit of each version's, and words that corrections taught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from backend.reports.economics.measures import measure
from backend.store.drafts.outcomes import CorrectedDraft
from backend.store.store import Store
from training.vocabulary import tokenize

LAST = 50
"""Corrections of which it is told what they taught."""


def by_version(corrected: Sequence[CorrectedDraft]) -> list[dict[str, Any]]:
    """For each version whose drafts were corrected, in the order in which annotators met them.

    `kept_share` is the share of drafts kept unchanged, `edits` the words changed a word of the corrections. Of several
    captions that one annotation gives, the one nearest to the draft counts.
    """
    rows = measure(corrected, keystrokes=False)
    found = []
    for version in dict.fromkeys(rows.version.tolist()):
        own = rows.where(np.flatnonzero(rows.version == version))
        number, kept, edits = len(own), int(own.unchanged.sum()), int(own.edits.sum()) / max(int(own.words.sum()), 1)
        row = {"version": version, "corrections": number, "kept": kept, "kept_share": kept / number, "edits": edits}
        found.append(row)
    return found


def taught(
    store: Store, project_id: int, champion: str, cutoff_seq: int, corrected: Sequence[CorrectedDraft]
) -> dict[str, Any]:
    """The words of the last corrections up to event `cutoff_seq` that drafts of the champion were the first to use.

    A word counts when its correction has it and the draft before did not. The most used come first.
    """
    shown = (each for each in corrected if each.seq <= cutoff_seq and each.draft != "")
    last = sorted(shown, key=lambda each: each.seq)[-LAST:]
    brought = {
        word for each in last for text in each.texts for word in {*tokenize(text)} - {*tokenize(each.draft or "")}
    }
    used = Counter(word for word in _words(store.draft_texts(project_id, champion)) if word in brought)
    for word in {*_words(store.draft_texts(project_id, champion, before=True))} & used.keys() if used else ():
        del used[word]
    return {"version": champion, "corrections": len(last), "words": sorted(used, key=lambda word: (-used[word], word))}


def _words(texts: Sequence[str]) -> list[str]:
    return tokenize("\n".join(texts))  # in one call, which takes half the time
