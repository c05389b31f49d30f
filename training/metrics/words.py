"""Counts of words and of edits."""

from __future__ import annotations

from collections.abc import Sequence

from training.vocabulary import tokenize


def word_edits(a: str, b: str) -> int:
    """Words inserted, deleted or replaced to turn one text into the other (Levenshtein, 1966); case is ignored."""
    from nltk.metrics.distance import edit_distance  # imported here, since nltk takes almost a second

    return int(edit_distance(tokenize(a), tokenize(b)))


def distinct_words(hypotheses: Sequence[str]) -> int:
    """How many different words the hypotheses use: blandness shows here."""
    return len({word for text in hypotheses for word in tokenize(text)})


def mean_length(hypotheses: Sequence[str]) -> float:
    """Words a hypothesis on average; 0 for none."""
    return sum(len(tokenize(text)) for text in hypotheses) / len(hypotheses) if hypotheses else 0.0
