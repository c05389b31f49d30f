"""How much captions that were sampled for one image disagree: the more, the less a captioner knows what is there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from training.metrics.words import word_edits
from training.vocabulary import tokenize

SAMPLED = 5
"""Captions to sample of an image: `Captioner.generate_n_best` with `DecodingConfig.sampling`."""


def disagreement(captions: Sequence[str]) -> float:
    """The mean distance between two of the captions, from 0 (all the same) to 1 (no word in common).

    It is the word edit distance over the number of words of the longer one: a disagreement of captions and not of
    words, for one caption may be said in many ways at each of its words and in few as a whole (compare query by
    committee, Seung et al., 1992). nan for fewer than two captions.
    """
    pairs = list(combinations(captions, 2))
    if not pairs:
        return float("nan")
    return sum(_distance(*pair) for pair in pairs) / len(pairs)


def _distance(a: str, b: str) -> float:
    return word_edits(a, b) / max(len(tokenize(a)), len(tokenize(b)), 1)
