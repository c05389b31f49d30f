"""Counts of words and of edits."""

from __future__ import annotations

from collections.abc import Sequence

from training.vocabulary import tokenize


def word_edits(a: str, b: str) -> int:
    """Words inserted, deleted or replaced to turn one text into the other (Levenshtein, 1966); case is ignored.

    A column of the table of distances is two whole numbers, a bit for each step up or down between neighbours (Myers,
    1999, "A fast bit-vector algorithm for approximate string matching"), because nltk's takes four times as long.
    """
    words, others = tokenize(a), tokenize(b)
    if not words:
        return len(others)
    matches: dict[str, int] = {}
    for number, word in enumerate(words):
        matches[word] = matches.get(word, 0) | 1 << number
    last, every = 1 << len(words) - 1, (1 << len(words)) - 1
    rises, falls, edits = every, 0, len(words)
    for word in others:
        match = matches.get(word, 0)
        diagonal = (((match & rises) + rises) ^ rises) | match | falls
        right_rises, right_falls = falls | ~(diagonal | rises), rises & diagonal
        edits += bool(right_rises & last) - bool(right_falls & last)
        right_rises, right_falls = right_rises << 1 | 1, right_falls << 1
        rises, falls = (right_falls | ~(match | falls | right_rises)) & every, right_rises & (match | falls)
    return edits


def distinct_words(hypotheses: Sequence[str]) -> int:
    """How many different words the hypotheses use: blandness shows here."""
    return len({word for text in hypotheses for word in tokenize(text)})


def mean_length(hypotheses: Sequence[str]) -> float:
    """Words a hypothesis on average; 0 for none."""
    return sum(len(tokenize(text)) for text in hypotheses) / len(hypotheses) if hypotheses else 0.0
