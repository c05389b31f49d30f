"""BLEU: how many of a caption's n-grams its references have. Of a corpus to report, of a sentence as a reward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, prod

import numpy as np

from training.errors import TrainingError
from training.metrics.ngrams import ORDERS, Ngram, Tokens, check_candidates, check_references, count_ngrams
from training.metrics.score import Score
from training.metrics.texts import corpus, split
from training.vocabulary import TOKENIZER


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], n: int = 4) -> Score:
    """Corpus BLEU-n (Papineni et al., 2002) x100 by nltk, with smoothing method 1 (Chen and Cherry, 2014).

    `references[i]` are the captions of the image that `hypotheses[i]` describes. An empty hypothesis is allowed and
    costs by the brevity penalty. Raises TrainingError for anything nltk would score silently wrong.

    pycocoevalcap's `Bleu` gives the same but in two cases. nltk counts one n-gram for a hypothesis shorter than n,
    pycocoevalcap none, so that each such hypothesis costs a little here. And where no n-gram of an order matches in
    the whole corpus, the numerator is 0.1 here and 1e-15 there.
    """
    said, expected = split(hypotheses, references)
    if n < 1:
        raise TrainingError(f"BLEU needs n of at least 1, not {n}.")
    # Imported here: nltk costs almost a second, and most users of this module count edits.
    import nltk
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

    smoothing = SmoothingFunction().method1
    # nltk answers 0 with a warning where no word at all matches, whatever the smoothing; so do we, without the noise.
    value = float(corpus_bleu(expected, said, weights=(1 / n,) * n, smoothing_function=smoothing)) if any(said) else 0.0
    release = ".".join(nltk.__version__.split(".")[:2])
    return Score(
        name=f"BLEU-{n}",
        value=100 * value,
        signature=f"bleu{n}|nltk:{release}|smooth:method1|tok:{TOKENIZER}",
        corpus=corpus(references),
    )


@dataclass(frozen=True, slots=True)
class _Image:
    """The references of an image: the most times one of them says each n-gram, and their lengths, shortest first."""

    most: Counter[Ngram]
    lengths: list[int]


class SentenceBleu:
    """BLEU-4 of single captions, smoothed, against references prepared once. For rewards, never to be reported.

    `references[i]` are the captions of image number i, as words or word numbers. Two to four tokens in a row count
    one match and one n-gram more than there are (Lin and Och, 2004; nltk's smoothing method 2): without that most
    single captions get nothing and there is nothing to learn from. Raises TrainingError for an image without
    references.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]]) -> None:
        check_references(references)
        self._images = [_prepare(captions) for captions in references]

    def rewards(self, images: Sequence[int], candidates: Sequence[Tokens]) -> np.ndarray:
        """BLEU-4 of each candidate against the references of image number `images[k]`, from 0 to 1: (K,).

        Raises TrainingError when images and candidates are misaligned or there is no image of that number.
        """
        check_candidates(images, candidates, len(self._images))
        pairs = zip(images, candidates, strict=True)
        return np.array([_precision(self._images[image], tokens) for image, tokens in pairs], dtype=np.float64)


def sentence_bleu_4(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """Smoothed BLEU-4 of one caption as `SentenceBleu` gives it, from 0 to 1. For rewards, never to be reported."""
    return float(SentenceBleu([references]).rewards([0], [candidate])[0])


def _prepare(captions: Sequence[Tokens]) -> _Image:
    most: Counter[Ngram] = Counter()
    for tokens in captions:
        most |= count_ngrams(tokens)
    return _Image(most, sorted(len(tokens) for tokens in captions))


def _precision(image: _Image, tokens: Tokens) -> float:
    """The geometric mean of the clipped precisions of all orders, less for a caption that is too short."""
    matches = [0] * ORDERS
    most = image.most.get  # plain `get`: a Counter's own look-up is a Python call for each n-gram it lacks
    for ngram, times in count_ngrams(tokens).items():
        matches[len(ngram) - 1] += min(times, most(ngram, 0))
    if not matches[0]:
        return 0.0
    length = len(tokens)
    closest = min(image.lengths, key=lambda other: abs(other - length))
    # nltk's count: a caption too short for an order is taken to have one n-gram of it.
    totals = [max(1, length - order) for order in range(ORDERS)]
    smooth = [(matches[order] + (order > 0)) / (totals[order] + (order > 0)) for order in range(ORDERS)]
    return prod(smooth) ** (1 / ORDERS) * exp(min(0.0, 1 - closest / length))
