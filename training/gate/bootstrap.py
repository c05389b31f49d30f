"""How far chance may have moved a difference in BLEU-4: the paired bootstrap, on sums instead of sentences.

Corpus BLEU follows from sums of `bleu_statistics`. A resample therefore costs one row of a matrix product, and its
score is what nltk gives for the same sentences (Koehn, 2004, "Statistical significance tests for machine translation
evaluation"; Efron and Tibshirani, 1993, "An introduction to the bootstrap").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from training.errors import TrainingError
from training.metrics.bleu_statistics import COLUMNS, corpus_bleu_4

RESAMPLES = 1000
SEED = 1
"""The same evaluations get the same verdict."""


@dataclass(frozen=True)
class Difference:
    """BLEU-4 of the candidate less the champion's, in points (x100), with its confidence interval.

    `lower` and `upper` are one-sided bounds, each wrong with probability `level`; `error` is the standard error. From
    one pair no error can be estimated: its bounds are -100 and 100.
    """

    value: float
    lower: float
    upper: float
    error: float
    level: float


def resamples(pairs: int, count: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each of `pairs` pairs is in each of `count` resamples of the same size: (count, pairs).

    Single precision, which holds whole numbers up to 2**24 and so their sums exactly. Raises TrainingError for fewer
    than one pair or two resamples.
    """
    if pairs < 1 or count < 2:
        raise TrainingError(f"A bootstrap needs a pair and two resamples, not {pairs} and {count}.")
    drawn = np.random.default_rng(seed).integers(pairs, size=(count, pairs))
    drawn += pairs * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * pairs).reshape(count, pairs).astype(np.float32)


def compare(champion: np.ndarray, candidate: np.ndarray, counts: np.ndarray, level: float) -> Difference:
    """The difference of two models on the same sentences, from their `bleu_statistics` and the sentences' `resamples`.

    The standard error is that of the resampled differences; both models get the same resamples. The contributions of
    single sentences decide how many standard errors away a bound lies (`_distances`). Quantiles of the resampled
    differences, the usual bounds, are undefined for levels below one in `len(counts)`, which later interim looks need
    (`training.gate.rule.significance_level`). Raises TrainingError when the shapes do not belong together.
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
    # A sentence contributes what is lost without it: the jackknife (Efron and Tibshirani, chapter 11).
    down, up = _distances(-_difference(total - both), level)
    return Difference(value, max(-100.0, value - down * error), min(100.0, value + up * error), error, level)


def corpus_difference(champion: np.ndarray, candidate: np.ndarray) -> float:
    """Candidate's less champion's BLEU-4 in points, from their `bleu_statistics`."""
    return float(_difference(np.hstack([champion, candidate]).sum(axis=0, dtype=np.float64)))


def _difference(sums: np.ndarray) -> np.ndarray:
    return corpus_bleu_4(sums[..., COLUMNS:]) - corpus_bleu_4(sums[..., :COLUMNS])


def _distances(contributions: np.ndarray, level: float) -> tuple[float, float]:
    """How many standard errors the bounds lie below and above the estimate, from each sentence's contribution (N,).

    With the bounds of a normal distribution a candidate that is worse by a few very bad captions would pass too often:
    a set that happens to have few of them shows a small loss and a small standard error at once. Two corrections:

    - Student's t with fewer degrees of freedom: as many as normal values would need for a variance known as poorly as
      this one (Satterthwaite, 1946, with the variance of a variance by the kurtosis). Where few sentences make the
      whole difference, they are counted instead of the pairs.
    - Hall's correction for skewness ("On the removal of skewness by transformation", 1992) on the side where it moves
      the bound away. It never moves one nearer, since the skewness of a sample is itself only an estimate.
    """
    pairs = len(contributions)
    centred = contributions - contributions.mean()
    variance = float((centred**2).mean())
    if variance < 1e-20:  # rounding alone leaves about 1e-26 where every sentence contributes the same
        return (_student(level, pairs - 1),) * 2
    skewness = float((centred**3).mean()) / variance**1.5
    kurtosis = float((centred**4).mean()) / variance**2
    distance = _student(level, min(pairs - 1, 2 * pairs / max(kurtosis - 1, 1e-9)))
    bend = abs(skewness) / sqrt(pairs)
    further = 3 / bend * (1 - np.cbrt(1 - bend * (distance + bend / 6))) if bend > 1e-9 else distance
    further = max(distance, float(further))
    return (further, distance) if skewness < 0 else (distance, further)


def _student(level: float, freedom: float) -> float:
    """What a t variable with these degrees of freedom exceeds with probability `level`."""
    # Imported here, since most users need no bounds; scipy.stats gives the same and takes two seconds more to import.
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, level))
