"""How a project's drafts change: what annotators keep and edit of each version's, and words that corrections taught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from backend.store.drafts.changes import DraftChanges
from backend.store.store import Store
from training.vocabulary import tokenize

LAST = 50
"""Corrections of which it is told what they taught."""
OTHERS = 4
"""So many times as many are read, for a few of them were made without a draft on purpose."""


def by_version(changes: Sequence[DraftChanges]) -> list[dict[str, Any]]:
    """For each version whose drafts were corrected, in the order in which annotators met them.

    `kept_share` is the share of drafts kept unchanged, `edits` the words changed a word of the corrections. Of several
    captions that one annotation gives, the one nearest to the draft counts.
    """
    return [
        {
            "version": each.version,
            "corrections": each.corrections,
            "kept": each.kept,
            "kept_share": each.kept / each.corrections,
            "edits": each.word_edits / max(each.words, 1),
        }
        for each in changes
        if each.version and each.corrections
    ]


def taught(store: Store, project_id: int, champion: str, cutoff_seq: int) -> dict[str, Any]:
    """The words of the last corrections up to event `cutoff_seq` that drafts of the champion were the first to use.

    A word counts when its correction has it and the draft before did not. The most used come first.
    """
    latest = store.latest_corrections(project_id, OTHERS * LAST, cutoff_seq)
    last = [each for each in latest if each.draft_text != ""][:LAST]
    brought = {
        word for each in last for text in each.texts for word in {*tokenize(text)} - {*tokenize(each.draft_text or "")}
    }
    used = Counter(word for word in _words(store.draft_texts(project_id, champion)) if word in brought)
    for word in {*_words(store.draft_texts(project_id, champion, before=True))} & used.keys() if used else ():
        del used[word]
    return {"version": champion, "corrections": len(last), "words": sorted(used, key=lambda word: (-used[word], word))}


def _words(texts: Sequence[str]) -> list[str]:
    return tokenize("\n".join(texts))  # in one call, which takes half the time
