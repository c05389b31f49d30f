"""BLEU-4 from the counts of each caption, so that any selection of captions is scored by adding up its rows.

Corpus BLEU needs ten numbers of each caption: clipped matches and n-grams of four orders and two lengths. The sums of a
selection's rows give the value that nltk gives for its captions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.metrics.ngrams import ORDERS, TokenIds
from training.metrics.score import split

EPSILON = 0.1
"""What nltk's smoothing method 1 puts in place of no match at all."""

MATCHES, NGRAMS = slice(0, ORDERS), slice(ORDERS, 2 * ORDERS)
LENGTH, REFERENCE_LENGTH = 2 * ORDERS, 2 * ORDERS + 1
COLUMNS = 2 * ORDERS + 2


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """The counts of each hypothesis against the captions `references[i]` of its image: (N, COLUMNS), whole numbers.

    In order: clipped matches of 1 to 4 words, n-grams of 1 to 4 words (at least one each, as nltk counts), words of the
    hypothesis, words of the reference closest in length (the shorter of two equally close ones). Raises TrainingError
    for what cannot be scored.
    """
    words, expected = split(hypotheses, references)
    ids, images = TokenIds(), np.arange(len(words))
    ours = ids.ngrams(words, images)
    counts = [len(captions) for captions in expected]
    theirs = ids.ngrams([caption for captions in expected for caption in captions], np.repeat(images, counts))
    here, there = theirs.find(ours)
    most = np.zeros(len(ours.number), dtype=np.int64)  # how often one of the references has the n-gram
    np.maximum.at(most, here, theirs.times[there])
    matches = ours.sums(np.minimum(ours.times, most))
    ngrams = np.maximum(1, ours.length[:, None] - np.arange(ORDERS))
    closest = np.lexsort((theirs.length, abs(theirs.length - ours.length[theirs.image]), theirs.image))
    closest = closest[np.cumsum([0, *counts[:-1]])]  # the first of each image
    return np.column_stack([matches, ngrams, ours.length, theirs.length[closest]]).astype(np.float32)


def corpus_bleu_4(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4 x100 of summed statistics (..., COLUMNS): (...). nltk's, with smoothing method 1."""
    sums = np.asarray(sums, dtype=np.float64)
    matches = sums[..., MATCHES]
    return _bleu(np.where(matches == 0, EPSILON, matches), sums[..., NGRAMS], sums)


def sentence_bleu_4(statistics: np.ndarray) -> np.ndarray:
    """BLEU-4 x100 of each caption alone (N, COLUMNS): (N,). Not to be reported.

    It is nltk's with smoothing method 2 (Lin and Och, 2004): two to four words in a row count one match and one n-gram
    more than there are. Without it most single captions have BLEU-4 0.
    """
    statistics = np.asarray(statistics, dtype=np.float64)
    added = np.array([0, *[1] * (ORDERS - 1)])
    return _bleu(statistics[..., MATCHES] + added, statistics[..., NGRAMS] + added, statistics)


def _bleu(matches: np.ndarray, ngrams: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """BLEU-4 x100 with these smoothed matches and n-grams; 0 where no word matches."""
    length = counts[..., LENGTH]
    brevity = np.minimum(0.0, 1 - counts[..., REFERENCE_LENGTH] / np.maximum(length, 1))
    none = counts[..., 0] == 0
    precisions = np.where(none[..., None], 1.0, matches) / ngrams
    return np.where(none, 0.0, 100 * np.exp(np.log(precisions).mean(axis=-1) + brevity))
