"""CIDEr-D: n-grams a caption shares with its references, each weighed by how few images' references have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from training.metrics.ngrams import ORDERS, Ngram, Tokens, check_candidates, check_references, count_ngrams
from training.metrics.score import Score
from training.metrics.texts import corpus, split
from training.vocabulary import TOKENIZER

SIGMA = 6.0
"""Tokens of difference in length at which the length penalty has its bend."""


_Uses = tuple[tuple[int, int], ...]
"""Who says an n-gram: (number of the reference, how many times)."""


@dataclass(frozen=True, slots=True)
class _Image:
    """The references of an image. `norms[order][number]` is the length of a reference's tf-idf vector."""

    uses: dict[Ngram, _Uses]
    norms: list[list[float]]
    lengths: list[int]


class CiderD:
    """CIDEr-D (Vedantam et al., 2015) of many candidates against the references of one corpus, prepared once.

    `references[i]` are the captions of image number i, as words or word numbers. In how many images an n-gram occurs
    is counted in these references. For rewards, end references and candidates alike with an end token: without it a
    captioner learns to stop in the middle of a phrase. Raises TrainingError for an image without references.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]]) -> None:
        check_references(references)
        counted = [[count_ngrams(tokens) for tokens in captions] for captions in references]
        images = Counter(ngram for counts in counted for ngram in set().union(*counts))
        # An n-gram's weight is its inverse document frequency squared, as every product of two tf-idf values has it.
        weights = {seen: log(len(references) / seen) ** 2 for seen in {1, *images.values()}}
        self._unseen = weights[1]
        self._weights = {ngram: weights[seen] for ngram, seen in images.items()}
        # Nearly every n-gram is said once by one reference, so that few different tuples serve a whole corpus.
        shared: dict[_Uses, _Uses] = {}
        self._images = [
            _Image(_uses(counts, shared), self._norms(counts), [len(tokens) for tokens in captions])
            for counts, captions in zip(counted, references, strict=True)
        ]

    def rewards(self, images: Sequence[int], candidates: Sequence[Tokens]) -> np.ndarray:
        """CIDEr-D of each candidate against the references of image number `images[k]`, from 0 to 10: (K,).

        Raises TrainingError when images and candidates are misaligned or there is no image of that number.
        """
        check_candidates(images, candidates, len(self._images))
        pairs = zip(images, candidates, strict=True)
        return np.array([self._similarity(self._images[image], tokens) for image, tokens in pairs], dtype=np.float64)

    def _norms(self, counts: Sequence[Counter[Ngram]]) -> list[list[float]]:
        squares = [[0.0] * len(counts) for _ in range(ORDERS)]
        for number, count in enumerate(counts):
            for ngram, times in count.items():
                squares[len(ngram) - 1][number] += self._weights[ngram] * times * times
        return [[sqrt(square) for square in row] for row in squares]

    def _similarity(self, image: _Image, tokens: Tokens) -> float:
        """Ten times the mean over references and orders of the clipped cosine, less for another length."""
        count = len(image.lengths)
        products = [[0.0] * count for _ in range(ORDERS)]
        squares = [0.0] * ORDERS
        for ngram, times in count_ngrams(tokens).items():
            weight = self._weights.get(ngram, self._unseen)
            squares[len(ngram) - 1] += weight * times * times
            for number, used in image.uses.get(ngram, ()):
                # Saying a word more often than the reference does must not pay.
                products[len(ngram) - 1][number] += weight * min(times, used) * used
        nearness = [exp(-((len(tokens) - length) ** 2) / (2 * SIGMA**2)) for length in image.lengths]
        total = 0.0
        for square, row, norms in zip(squares, products, image.norms, strict=True):
            for product, norm, near in zip(row, norms, nearness, strict=True):
                if product:
                    total += near * product / (sqrt(square) * norm)
        return 10 * total / (ORDERS * count)


def _uses(counts: Sequence[Counter[Ngram]], shared: dict[_Uses, _Uses]) -> dict[Ngram, _Uses]:
    uses: dict[Ngram, _Uses] = {}
    for number, count in enumerate(counts):
        for ngram, times in count.items():
            uses[ngram] = (*uses.get(ngram, ()), (number, times))
    return {ngram: shared.setdefault(use, use) for ngram, use in uses.items()}


def cider_d(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """CIDEr-D (Vedantam et al., 2015) x100, from 0 to 1000: the mean of `cider_d_each`, as by pycocoevalcap's `Cider`.

    Raises TrainingError as `cider_d_each` does.
    """
    return mean_score(cider_d_each(hypotheses, references), references)


def cider_d_each(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D x100 of each hypothesis, with n-grams weighed by the references given here.

    An n-gram that the references of every image have weighs nothing. A single image therefore scores 0, and scores of
    few images say little. Raises TrainingError for anything that would be scored silently wrong.
    """
    said, expected = split(hypotheses, references)
    rewards = CiderD(expected).rewards(range(len(said)), said)
    return [100 * float(reward) for reward in rewards]


def mean_score(each: Sequence[float], references: Sequence[Sequence[str]]) -> Score:
    """The corpus score of captions already scored by `cider_d_each`."""
    return Score(
        name="CIDEr-D",
        value=sum(each) / len(each),
        signature=f"ciderD|n:{ORDERS}|sigma:{SIGMA:g}|df:references|tok:{TOKENIZER}",
        corpus=corpus(references),
    )
