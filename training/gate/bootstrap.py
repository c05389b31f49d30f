"""How far chance may have moved a difference in BLEU-4: the paired bootstrap, on sums instead of sentences.

Corpus BLEU needs of a sentence ten numbers only, and of a corpus their sums. So a resample costs one row of a matrix
product, and its score is what nltk would give for the very same sentences (Koehn, 2004, "Statistical significance
tests for machine translation evaluation"; Efron and Tibshirani, 1993, "An introduction to the bootstrap").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from training.errors import TrainingError
from training.metrics.bleu_statistics import COLUMNS, corpus_bleu_4

RESAMPLES = 1000
SEED = 1
"""The same evaluations get the same verdict."""


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
    """The difference of two models on the same sentences, from their `bleu_statistics` and the `resamples` of those.

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
    """Candidate's less champion's BLEU-4 in points, from their `bleu_statistics`."""
    return float(_difference(np.hstack([champion, candidate]).sum(axis=0, dtype=np.float64)))


def _difference(sums: np.ndarray) -> np.ndarray:
    return corpus_bleu_4(sums[..., COLUMNS:]) - corpus_bleu_4(sums[..., :COLUMNS])


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
