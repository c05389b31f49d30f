"""How far chance may have moved a difference in BLEU-4: the paired bootstrap, on sums instead of sentences.

Corpus BLEU needs of a sentence ten numbers only, and of a corpus their sums. So a resample costs one row of a matrix
product, and its score is what nltk would give for the very same sentences (Koehn, 2004, "Statistical significance
tests for machine translation evaluation"; Efron and Tibshirani, 1993, "An introduction to the bootstrap").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from training.errors import TrainingError
from training.metrics.ngrams import ORDERS, Ngram, count_ngrams
from training.metrics.texts import split

RESAMPLES = 1000
SEED = 1
"""The same evaluations get the same verdict."""
EPSILON = 0.1
"""What nltk's smoothing method 1 puts in place of no match at all."""

MATCHES, NGRAMS = slice(0, ORDERS), slice(ORDERS, 2 * ORDERS)
SAID, EXPECTED = 2 * ORDERS, 2 * ORDERS + 1
COLUMNS = 2 * ORDERS + 2


@dataclass(frozen=True)
class Difference:
    """BLEU-4 of the candidate less the champion's, in points (x100), and what chance leaves open.

    `lower` and `upper` are one-sided bounds, each wrong with probability `level`; `error` is the standard error. One
    pair says nothing of chance: its bounds are -100 and 100.
    """

    value: float
    lower: float
    upper: float
    error: float
    level: float


def statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """What corpus BLEU-4 sums over sentences: (N, COLUMNS), whole numbers.

    In order: clipped matches of 1 to 4 words, n-grams said of 1 to 4 words (at least one each, as nltk counts), words
    said, words of the reference nearest in length (of equals the shorter). Raises TrainingError for what cannot be
    scored.
    """
    said, expected = split(hypotheses, references)
    rows = [_sentence(words, captions) for words, captions in zip(said, expected, strict=True)]
    return np.array(rows, dtype=np.float32)


def _sentence(words: list[str], captions: list[list[str]]) -> list[int]:
    most: Counter[Ngram] = Counter()
    for caption in captions:
        most |= count_ngrams(caption)
    matches = [0] * ORDERS
    for ngram, times in count_ngrams(words).items():
        matches[len(ngram) - 1] += min(times, most[ngram])
    length = len(words)
    nearest = min((len(caption) for caption in captions), key=lambda other: (abs(other - length), other))
    return [*matches, *(max(1, length - order) for order in range(ORDERS)), length, nearest]


def bleu_4(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4 x100 of summed statistics (..., COLUMNS): (...). nltk's, with smoothing method 1."""
    sums = np.asarray(sums, dtype=np.float64)
    matches, said = sums[..., MATCHES], sums[..., SAID]
    precisions = np.where(matches == 0, EPSILON, matches) / sums[..., NGRAMS]
    brevity = np.minimum(0.0, 1 - sums[..., EXPECTED] / np.maximum(said, 1))
    scores = 100 * np.exp(np.log(precisions).mean(axis=-1) + brevity)
    return np.where(matches[..., 0] == 0, 0.0, scores)


def resamples(pairs: int, count: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each of `pairs` pairs is in each of `count` resamples of as many: (count, pairs).

    Single precision, because it holds every whole number to 2**24 and so their sums exactly. Raises TrainingError
    for fewer than one pair or two resamples.
    """
    if pairs < 1 or count < 2:
        raise TrainingError(f"A bootstrap needs a pair and two resamples, not {pairs} and {count}.")
    drawn = np.random.default_rng(seed).integers(pairs, size=(count, pairs))
    drawn += pairs * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * pairs).reshape(count, pairs).astype(np.float32)


def compare(champion: np.ndarray, candidate: np.ndarray, counts: np.ndarray, level: float) -> Difference:
    """The difference of two models on the same sentences, from their `statistics` and the `resamples` of those.

    The standard error is that of the resampled differences, the same sentences drawn for both models. How many of them
    away a bound lies follows from what single sentences gain and lose (`_reaches`). Quantiles of the resampled
    differences, the usual bounds, can say nothing of levels below one in `len(counts)`, which later looks at a set
    need (`training.gate.rule.level_of`). Raises TrainingError when the shapes do not belong together.
    """
    pairs = len(champion)
    if champion.shape != candidate.shape or counts.shape[1:] != (pairs,):
        raise TrainingError(
            f"The bootstrap was given {pairs} sentences of the champion, {len(candidate)} of the candidate and "
            f"resamples of {counts.shape[-1]}; all three must be the same sentences."
        )
    both = np.hstack([champion, candidate])  # (N, 2 COLUMNS): one product is faster than two
    total = both.sum(axis=0, dtype=np.float64)
    value = float(_difference(total))
    if pairs == 1:
        return Difference(value, -100.0, 100.0, 100.0, level)
    error = float(_difference(counts @ both).std(ddof=1))
    # The more is lost without a sentence, the more it gave: the jackknife (Efron and Tibshirani, chapter 11).
    down, up = _reaches(-_difference(total - both), level)
    return Difference(value, max(-100.0, value - down * error), min(100.0, value + up * error), error, level)


def corpus_difference(champion: np.ndarray, candidate: np.ndarray) -> float:
    """Candidate's less champion's BLEU-4 in points, from their `statistics`."""
    return float(_difference(np.hstack([champion, candidate]).sum(axis=0, dtype=np.float64)))


def _difference(sums: np.ndarray) -> np.ndarray:
    return bleu_4(sums[..., COLUMNS:]) - bleu_4(sums[..., :COLUMNS])


def _reaches(each: np.ndarray, level: float) -> tuple[float, float]:
    """How many standard errors the bounds lie below and above the estimate; `each` is what every sentence gives to it.

    A candidate that is worse by a few very bad captions would pass too often with the bounds of a normal distribution:
    a set that by chance has few of them shows a small loss and a small standard error at once. Therefore

    - Student's t, with as many degrees of freedom as normal values would need for a variance known no better than
      this one (Satterthwaite, 1946, with the variance of a variance by the kurtosis): where few sentences make the
      whole difference, they count, not the pairs;
    - Hall's correction for skewness ("On the removal of skewness by transformation", 1992) on the side where it draws
      the bound away. It draws none nearer, since the skewness of a sample is a guess itself.
    """
    pairs = len(each)
    centred = each - each.mean()
    variance = float((centred**2).mean())
    if variance < 1e-20:  # rounding alone leaves about 1e-26 where every sentence does the same
        return (_student(level, pairs - 1),) * 2
    skewness = float((centred**3).mean()) / variance**1.5
    kurtosis = float((centred**4).mean()) / variance**2
    t = _student(level, min(pairs - 1, 2 * pairs / max(kurtosis - 1, 1e-9)))
    bend = abs(skewness) / sqrt(pairs)
    further = max(t, float(3 / bend * (1 - np.cbrt(1 - bend * (t + bend / 6))))) if bend > 1e-9 else t
    return (further, t) if skewness < 0 else (t, further)


def _student(level: float, freedom: float) -> float:
    """What a t variable exceeds with probability `level`: the series 26.7.5 of Abramowitz and Stegun (1964)."""
    z = NormalDist().inv_cdf(1 - level)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
