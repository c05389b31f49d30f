from __future__ import annotations

import numpy as np

from training.decoding.beam_search import Candidate
from training.decoding.retrieval import SIMILARITY_WEIGHT, rerank


def candidates(*logs: float) -> list[Candidate]:
    return [Candidate((number,) * 3, log) for number, log in enumerate(logs)]


def order(several: list[Candidate]) -> list[int]:
    return [one.tokens[0] for one in several]


def test_the_most_similar_caption_comes_first_among_equally_likely_ones() -> None:
    assert order(rerank(candidates(-0.5, -0.5, -0.5), np.array([0.1, 0.0, 0.3]), 0.7)) == [2, 0, 1]


def test_the_likelier_caption_comes_first_among_equally_similar_ones() -> None:
    assert order(rerank(candidates(-0.5, -0.2, -0.5), np.array([0.1, 0.1, 0.1]), 0.7)) == [1, 0, 2]


def test_similarity_counts_beside_the_score_of_the_search() -> None:
    gap = 0.4 * 4**0.3  # of two captions of three words and an end, by the search
    for more, first in ((1.01, 1), (0.99, 0)):
        similarity = np.array([0.0, more * gap / SIMILARITY_WEIGHT])
        assert order(rerank(candidates(-0.1, -0.5), similarity, 0.7))[0] == first


def test_nothing_to_rerank_stays_nothing() -> None:
    assert rerank([], np.zeros(0), 0.7) == []
