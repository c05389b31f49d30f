"""What can be counted of words without weighing them."""

from __future__ import annotations

from collections.abc import Sequence

from training.vocabulary import tokenize


def word_edits(a: str, b: str) -> int:
    """Words inserted, deleted or replaced to turn one text into the other (Levenshtein, 1966); case is ignored."""
    left, right = tokenize(a), tokenize(b)
    costs = list(range(len(right) + 1))
    for row, word in enumerate(left, start=1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(right, start=1):
            diagonal, costs[column] = (
                costs[column],
                min(costs[column] + 1, costs[column - 1] + 1, diagonal + (word != other)),
            )
    return costs[-1]


def distinct_words(hypotheses: Sequence[str]) -> int:
    """How many different words the hypotheses use: blandness shows here."""
    return len({word for text in hypotheses for word in tokenize(text)})


def mean_length(hypotheses: Sequence[str]) -> float:
    """Words a hypothesis on average; 0 for none."""
    return sum(len(tokenize(text)) for text in hypotheses) / len(hypotheses) if hypotheses else 0.0
