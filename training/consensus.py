"""Of several captions proposed for an image, the one that says most of what the others say too.

What the likeliest caption says may be said by it alone. The caption nearest to all the others has the least expected
loss (minimum Bayes risk decoding, Kumar & Byrne, 2004; for captions Devlin et al., 2015, "consensus caption").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.decoding import Found
from training.metrics.cider_score import SIGMA
from training.metrics.ngrams import ORDERS


def by_consensus(found: Sequence[Found], length_penalty: float) -> list[Found]:
    """The captions of one image, those first that are near to the others and likely themselves.

    Nearness is CIDEr-D with all n-grams alike, from 0 to 1, counted ten times as much as a score of the beam search.
    """
    if len(found) < 3:
        return list(found)
    near = nearness([one.tokens for one in found])
    np.fill_diagonal(near, 0.0)
    worth = [
        10 * mean + one.mean_log_probability * (len(one.tokens) + 1) ** (1 - length_penalty)
        for one, mean in zip(found, near.mean(axis=1), strict=True)
    ]
    return [found[number] for number in np.argsort(-np.array(worth), kind="stable")]


def nearness(captions: Sequence[Sequence[int]]) -> np.ndarray:
    """How near each caption is to each, (K, K): clipped cosines of n-gram counts, the mean of four orders, less for
    another length."""
    lengths = np.array([len(tokens) for tokens in captions])
    total = np.zeros((len(captions), len(captions)))
    for order in range(1, ORDERS + 1):
        counts = _counts(captions, order)  # (K, G)
        norms = np.linalg.norm(counts, axis=1).clip(min=1)
        shared = np.minimum(counts[:, None], counts[None]) * counts[None]  # saying a word more often must not pay
        total += shared.sum(axis=2) / (norms[:, None] * norms[None])
    return total / ORDERS * np.exp(-((lengths[:, None] - lengths[None]) ** 2) / (2 * SIGMA**2))


def _counts(captions: Sequence[Sequence[int]], order: int) -> np.ndarray:
    """How often each caption says each n-gram that any of them says, (K, G)."""
    numbers: dict[tuple[int, ...], int] = {}
    places = [
        [numbers.setdefault(tuple(tokens[i : i + order]), len(numbers)) for i in range(len(tokens) - order + 1)]
        for tokens in captions
    ]
    counts = np.zeros((len(captions), max(1, len(numbers))))
    for row, several in zip(counts, places, strict=True):
        np.add.at(row, several, 1)
    return counts
