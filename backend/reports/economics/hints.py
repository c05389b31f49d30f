"""What annotators ask for again and again, because drafts do not say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from backend.store.drafts.outcomes import CorrectedDraft
from training.vocabulary import tokenize

FEWEST = 3
"""Corrections for which a word has been asked before it counts as asked again and again."""
MOST = 20
"""Words that are told, the most frequent ones."""


def asked_for(corrected: Iterable[CorrectedDraft]) -> dict[str, int]:
    """Words of hints that the drafts lacked, and for how many corrections each was asked, the most frequent first."""
    times: Counter[str] = Counter()
    for each in corrected:
        if each.hints and each.draft:
            times.update({word for hint in each.hints for word in tokenize(hint)} - {*tokenize(each.draft)})
    often = sorted(times.items(), key=lambda one: (-one[1], one[0]))
    return {word: number for word, number in often[:MOST] if number >= FEWEST}
