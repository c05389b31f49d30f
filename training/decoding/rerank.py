"""Reranking: the captions of a beam ordered by their scores and their similarity to other captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from training.decoding.beam_search import Candidate
from training.metrics.cider_score import SIGMA
from training.metrics.ngrams import ORDERS

TRUST = 10.0
"""How much nearness, from 0 to 1, counts beside a score of the beam search."""
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd and large: n-grams get different numbers, but for one in billions


def by_votes(found: Sequence[Candidate], votes: np.ndarray, length_penalty: float) -> list[Candidate]:
    """The captions, best first by their scores in the beam search and `votes` (K,), from 0 to 1."""
    worth = [
        TRUST * vote + one.mean_log_probability * (len(one.tokens) + 1) ** (1 - length_penalty)
        for one, vote in zip(found, votes, strict=True)
    ]
    return [found[number] for number in np.argsort(-np.array(worth), kind="stable")]


def padded(captions: Sequence[Sequence[int]]) -> np.ndarray:
    """Word ids above zero as an array (K, L), with zeros after the last."""
    array = np.zeros((len(captions), max(map(len, captions), default=0)), dtype=np.int32)
    for row, tokens in zip(array, captions, strict=True):
        row[: len(tokens)] = tokens
    return array


def nearness(
    captions: np.ndarray, others: np.ndarray, weigh: Callable[[np.ndarray], np.ndarray] = np.ones_like
) -> np.ndarray:
    """How near each caption (K, L) is to each other one (R, L'), (K, R): clipped cosines of n-gram counts, the mean of
    four orders, less for another length. A tenth of CIDEr-D where `weigh` gives each of the n-grams that it is given by
    their `ngrams` the square of its inverse document frequency."""
    lengths, other_lengths = (np.count_nonzero(each, axis=1) for each in (captions, others))
    total = np.zeros((len(captions), len(others)))
    for own, their in zip(ngrams(captions), ngrams(others), strict=True):
        said = np.unique(own[own > 0])  # (G,); of the others' n-grams only these can be shared
        counts, other_counts = _counts(own, said), _counts(their, said)  # (K, G), (R, G)
        weights = weigh(said).astype(float)
        # saying a word more often must not pay
        shared = np.minimum(counts[:, None], other_counts[None]) * other_counts[None]  # (K, R, G)
        norms, other_norms = _norms(own, weigh), _norms(their, weigh)
        total += shared @ weights / np.maximum(norms[:, None] * other_norms[None], 1e-12)
    return total / ORDERS * np.exp(-((lengths[:, None] - other_lengths[None]) ** 2) / (2 * SIGMA**2))


def ngrams(captions: np.ndarray) -> list[np.ndarray]:
    """Of captions (K, L) the n-grams that begin with each word, as numbers above zero (K, L); 0 where none does. An
    array for each of four orders."""
    words = captions.astype(np.uint64)
    found, numbers = [], np.ones_like(words)
    for order in range(ORDERS):
        last = np.zeros_like(words)
        last[:, : max(0, words.shape[1] - order)] = words[:, order:]
        numbers = np.where(last > 0, numbers * _BASE + last, 0)
        found.append(numbers)
    return found


def _counts(numbers: np.ndarray, said: np.ndarray) -> np.ndarray:
    """How often each caption has each of the n-grams `said` (G,), which are in order: (K, G)."""
    counts = np.zeros((len(numbers), len(said)))
    if len(said):
        places = np.searchsorted(said, numbers).clip(max=len(said) - 1)
        rows, columns = np.nonzero(said[places] == numbers)
        np.add.at(counts, (rows, places[rows, columns]), 1)
    return counts


def _norms(numbers: np.ndarray, weigh: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Lengths (K,) of the vectors of weighted counts: each place adds its n-gram's weight as often as it is said."""
    times = (numbers[:, :, None] == numbers[:, None, :]).sum(axis=2)  # (K, L)
    return np.sqrt((times * weigh(numbers).astype(float) * (numbers > 0)).sum(axis=1))
