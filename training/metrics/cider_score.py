"""CIDEr-D: n-grams a caption shares with its references, each weighed by how few images' references have it.

One implementation scores reports, rewards and the similarity that reranks a beam.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.errors import TrainingError
from training.metrics.ngrams import ORDERS, Ngrams, TokenIds, Tokens, image_frequencies
from training.metrics.score import Score, corpus_score, split

SIGMA = 6.0
"""Tokens of difference in length at which the length penalty has its bend."""


class NgramWeights:
    """Squared inverse document frequencies: every product of two tf-idf values has the frequency twice.

    Counted in a corpus of `images` images whose captions have the n-grams `number` (E,), each of image `image` (E,).
    """

    def __init__(self, number: np.ndarray, image: np.ndarray, images: int) -> None:
        self._numbers, frequencies = image_frequencies(number, image)
        self._weights = np.log(images / frequencies) ** 2
        self._unseen = np.log(images) ** 2

    def __call__(self, ngrams: Ngrams) -> np.ndarray:
        """The weight of each n-gram (E,); one that the corpus lacks counts as one of a single image."""
        if not len(self._numbers):
            return np.full(len(ngrams.number), self._unseen)
        places = np.searchsorted(self._numbers, ngrams.number).clip(max=len(self._numbers) - 1)
        return np.where(self._numbers[places] == ngrams.number, self._weights[places], self._unseen)


class References:
    """Captions that others are compared with. `share` (C,) is how much each counts in the mean of its image."""

    def __init__(self, captions: Ngrams, share: np.ndarray, weights: NgramWeights) -> None:
        self._captions, self._share, self._weights = captions, share, weights
        self._norms = _norms(captions, weights(captions))

    def similarity(self, candidates: Ngrams) -> np.ndarray:
        """A tenth of the CIDEr-D (Vedantam et al., 2015) of each candidate, from 0 to 1: (K,).

        It is the mean over references and orders of the clipped cosine, less for another length.
        """
        weights, references = self._weights(candidates), self._captions
        ours, theirs = references.find(candidates)
        caption, reference, order = candidates.caption[ours], references.caption[theirs], candidates.order[ours]
        times = references.times[theirs]
        # Saying a word more often than the reference does must not pay.
        products = weights[ours] * np.minimum(candidates.times[ours], times) * times
        norms = _norms(candidates, weights)[caption, order] * self._norms[reference, order]
        cosines = np.divide(products, norms, out=np.zeros_like(products), where=products > 0)
        penalty = np.exp(-((candidates.length[caption] - references.length[reference]) ** 2) / (2 * SIGMA**2))
        parts = cosines * penalty * self._share[reference]
        return np.bincount(caption, parts, minlength=len(candidates.length)) / ORDERS


def _norms(captions: Ngrams, weights: np.ndarray) -> np.ndarray:
    """The lengths of the tf-idf vectors of captions, by order: (C, ORDERS)."""
    return np.sqrt(captions.sums(weights * captions.times**2))


class CiderD:
    """CIDEr-D of many candidates against the references of one corpus, prepared once.

    `references[i]` are the captions of image number i, as words or word numbers. In how many images an n-gram occurs
    is counted in these references. For rewards, end references and candidates alike with an end token: without it a
    captioner learns to stop in the middle of a phrase. Raises TrainingError for an image without references.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]]) -> None:
        if not references:
            raise TrainingError("There are no images to take references from.")
        for number, captions in enumerate(references):
            if not captions:
                raise TrainingError(f"Image {number} has no reference.")
            if any(isinstance(tokens, str) for tokens in (captions, *captions)):
                raise TrainingError(f"The references of image {number} must be lists of tokens, not texts.")
        self._ids, self._images = TokenIds(), len(references)
        counts = np.array([len(captions) for captions in references])
        flat = [tokens for captions in references for tokens in captions]
        ngrams = self._ids.ngrams(flat, np.repeat(np.arange(self._images), counts))
        weights = NgramWeights(ngrams.number, ngrams.image[ngrams.caption], self._images)
        self._references = References(ngrams, np.repeat(1 / counts, counts), weights)

    def rewards(self, images: Sequence[int], candidates: Sequence[Tokens]) -> np.ndarray:
        """CIDEr-D of each candidate against the references of image number `images[k]`, from 0 to 10: (K,).

        Raises TrainingError when images and candidates are misaligned or there is no image of that number.
        """
        if len(images) != len(candidates):
            raise TrainingError(f"{len(candidates)} candidates were given but {len(images)} image numbers.")
        if any(isinstance(tokens, str) for tokens in (candidates, *candidates)):
            raise TrainingError("Candidates must be lists of tokens, not texts.")
        # A negative number would silently mean an image counted from the end.
        if len(images) and not 0 <= min(images) <= max(images) < self._images:
            raise TrainingError(f"Image numbers must be from 0 to {self._images - 1}, the number of images less one.")
        return 10 * self._references.similarity(self._ids.ngrams(candidates, np.array(images, dtype=np.int64)))


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
    words, expected = split(hypotheses, references)
    return (100 * CiderD(expected).rewards(range(len(words)), words)).tolist()


def mean_score(each: Sequence[float], references: Sequence[Sequence[str]]) -> Score:
    """The corpus score of captions already scored by `cider_d_each`."""
    signature = f"ciderD|n:{ORDERS}|sigma:{SIGMA:g}|df:references"
    return corpus_score("CIDEr-D", sum(each) / len(each), signature, references)
