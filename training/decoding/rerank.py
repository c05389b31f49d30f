"""Reranking: the captions of a beam ordered by their scores and their similarity to other captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.decoding.beam_search import Candidate

SIMILARITY_WEIGHT = 10.0
"""What a similarity, from 0 to 1, counts beside a score of the beam search, which is a log probability."""


def rerank(candidates: Sequence[Candidate], similarity: np.ndarray, length_penalty: float) -> list[Candidate]:
    """The candidates, best first by their scores in the beam search and their `similarity` (K,) to other captions."""
    scores = [
        SIMILARITY_WEIGHT * similar + one.mean_log_probability * (len(one.tokens) + 1) ** (1 - length_penalty)
        for one, similar in zip(candidates, similarity, strict=True)
    ]
    return [candidates[number] for number in np.argsort(-np.array(scores), kind="stable")]
