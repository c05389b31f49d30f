"""How a project's drafts change: what annotators keep and edit of each version's, and words that corrections taught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from backend.store.store import CorrectedDraft, Store
from training.metrics.words import word_edits
from training.vocabulary import tokenize

LAST = 50
"""Corrections of which it is told what they taught."""


def by_version(corrected: Iterable[CorrectedDraft]) -> list[dict[str, Any]]:
    """For each version whose drafts were corrected, in the order in which annotators met them.

    `kept_share` is the share of drafts kept unchanged, `edits` the words changed a word of the corrections. Of several
    captions that one annotation gives, the one nearest to the draft counts.
    """
    found: dict[str, list[CorrectedDraft]] = {}
    for each in corrected:
        if each.version and each.draft:
            found.setdefault(each.version, []).append(each)
    return [{"version": version, **_figures(several)} for version, several in found.items()]


def _figures(corrected: Sequence[CorrectedDraft]) -> dict[str, Any]:
    kept = edits = words = 0
    for each in corrected:
        if each.texts == (each.draft,):
            kept += 1
            words += len(tokenize(each.draft or ""))
            continue
        nearest = min((word_edits(each.draft or "", text), len(tokenize(text))) for text in each.texts)
        edits, words = edits + nearest[0], words + nearest[1]
    share = kept / len(corrected)
    return {"corrections": len(corrected), "kept": kept, "kept_share": share, "edits": edits / max(words, 1)}


def taught(
    store: Store, project_id: int, champion: str, cutoff_seq: int, corrected: Sequence[CorrectedDraft]
) -> dict[str, Any]:
    """The words of the last corrections up to event `cutoff_seq` that drafts of the champion were the first to use.

    A word counts when its correction has it and the draft before did not. The most used come first.
    """
    last = sorted((each for each in corrected if each.seq <= cutoff_seq), key=lambda each: each.seq)[-LAST:]
    brought = {
        word for each in last for text in each.texts for word in {*tokenize(text)} - {*tokenize(each.draft or "")}
    }
    used = Counter(word for word in _words(store.draft_texts(project_id, champion)) if word in brought)
    for word in {*_words(store.draft_texts(project_id, champion, before=True))} & used.keys() if used else ():
        del used[word]
    return {"version": champion, "corrections": len(last), "words": sorted(used, key=lambda word: (-used[word], word))}


def _words(texts: Sequence[str]) -> list[str]:
    return tokenize("\n".join(texts))  # in one call, which takes half the time
