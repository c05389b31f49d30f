"""Calibration: the chance that an annotator accepts a draft, learned from what became of earlier ones.

A logistic regression over the signals of a draft, each standardised. Its chances are calibrated as they come out of the
fit, and it needs few corrections; isotonic regression overfits where there are fewer than a thousand (Niculescu-Mizil &
Caruana, 2005, "Predicting good probabilities with supervised learning"), as `python -m benchmarks.signals` shows. Where
few drafts are accepted, corrections hardly tell what a signal is worth; so weights have a prior, by which they are what
they were for other photographs. What is reported is measured on corrections that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.decoding.signals import Signals
from training.errors import DataError

LEAST = 50
"""Corrections from which chances are learned: with fewer their error is as large as what they tell."""
LEAST_OF_A_KIND = 5
"""Of these so many accepted and so many changed, so that each of the folds has one of both kinds."""
FOLDS = 5
EXPECTED = Signals(log_probability=0.7, margin=0.4, attention_entropy=0.0, rarity=0.0, image_distance=0.0, length=-0.8)
"""The mean of the prior of each signal's weight: what was learned, with a mean of 0, from the starter's drafts of
Flickr8k's development images, rounded; accepted were those within two words of a reference."""
SPREAD = 0.35
"""Standard deviation of the prior of each weight, of signals that are standardised."""
FARTHEST = 3.0
"""Spreads from the mean where a signal ends to count: beyond, corrections say nothing of it."""
BINS, LEAST_IN_A_BIN = 15, 10


@dataclass(frozen=True)
class Calibration:
    """F signals to a chance: `mean` and `spread` standardise them, and the logistic function of `bias` and the sum of
    their `weights` is the chance. A signal that is unknown counts as its mean."""

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def chances(self, values: np.ndarray) -> np.ndarray:
        """The chances (N,) of drafts with these signals (N, F), nan where one is unknown."""
        return _logistic(_standardised(values, np.array(self.mean), np.array(self.spread)) @ self.weights + self.bias)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Calibration:
        """The inverse of `to_json`. Raises DataError for anything else."""
        try:
            mean, spread, weights = (tuple(map(float, value[name])) for name in ("mean", "spread", "weights"))
            found = cls(mean, spread, weights, float(value["bias"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"This is no calibration of scores: {value!r:.100}.") from error
        if not len(mean) == len(spread) == len(weights):
            raise DataError("A calibration of scores must have a mean, a spread and a weight for each signal.")
        return found


@dataclass(frozen=True)
class Bin:
    """Drafts with similar chances: their mean, the share of them that was accepted, and their number."""

    chance: float
    accepted: float
    number: int


@dataclass(frozen=True)
class Reliability:
    """How far chances can be trusted.

    `ece` is the expected calibration error: how far the chances of a bin are from the share that was accepted, on
    average. `brier` is the mean squared error of the chances, and `base_brier` that of the `base_rate`, the share of
    all that was accepted. `auroc` is how often an accepted draft has a higher chance than one that was changed: 0.5 is
    chance, 1 always; nan where all are alike.
    """

    ece: float
    brier: float
    base_rate: float
    base_brier: float
    auroc: float
    bins: tuple[Bin, ...]


def fit(values: np.ndarray, accepted: np.ndarray) -> Calibration | None:
    """Learn from drafts with signals (N, F), nan where one is unknown, and whether they were `accepted` (N,); None
    where there are too few. The first signals are those of `Signals`, in their order; of others nothing is expected."""
    return learned(values, accepted) if suffices(len(accepted), int(np.sum(accepted))) else None


def suffices(corrections: int, accepted: int) -> bool:
    """Whether so many corrections, of which so many were accepted, are enough to learn chances from."""
    return corrections >= LEAST and min(accepted, corrections - accepted) >= LEAST_OF_A_KIND


def measured(values: np.ndarray, accepted: np.ndarray) -> Reliability:
    """How far chances that `fit` learns from these drafts can be trusted, by what is learned of the others of each."""
    return reliability(cross_fitted(values, accepted), accepted)


def cross_fitted(values: np.ndarray, accepted: np.ndarray, expected: Sequence[float] = EXPECTED) -> np.ndarray:
    """The chance (N,) of each draft by what is learned from the other folds; the arguments are those of `learned`."""
    fold, chances = folds(accepted), np.zeros(len(accepted))
    for number in range(FOLDS):
        held = fold == number
        chances[held] = learned(values[~held], accepted[~held], expected).chances(values[held])
    return chances


def folds(accepted: np.ndarray) -> np.ndarray:
    """The number (N,) of each draft's fold: all have as many of either kind, in an order that has nothing to do with
    time."""
    fold = np.zeros(len(accepted), dtype=np.int64)
    for kind in (True, False):
        of_kind = np.random.default_rng(0).permutation(np.flatnonzero(accepted == kind))
        fold[of_kind] = np.arange(len(of_kind)) % FOLDS
    return fold


def reliability(chances: np.ndarray, accepted: np.ndarray, bins: int = BINS) -> Reliability:
    """How well chances (N,) foretold what was `accepted` (N,). Bins have equally many drafts, and at least
    LEAST_IN_A_BIN; what falls into one by accident counts as an error of the chances."""
    right = accepted.astype(np.float64)
    base = float(right.mean())
    number = max(1, min(bins, len(right) // LEAST_IN_A_BIN))
    parts = np.array_split(np.argsort(chances, kind="stable"), number)
    found = tuple(Bin(float(chances[part].mean()), float(right[part].mean()), len(part)) for part in parts)
    return Reliability(
        ece=sum(each.number * abs(each.chance - each.accepted) for each in found) / len(right),
        brier=float(np.square(chances - right).mean()),
        base_rate=base,
        base_brier=base * (1 - base),
        auroc=_auroc(chances, accepted.astype(bool)),
        bins=found,
    )


def learned(values: np.ndarray, accepted: np.ndarray, expected: Sequence[float] = EXPECTED) -> Calibration:
    """As `fit`, however few they are. `expected` are the means of the priors of the first weights; of the others 0."""
    from scipy.optimize import minimize  # takes a while, and only a worker needs it

    mean, spread = np.array([*map(_mean_and_spread, values.T)]).T
    known, right = _standardised(values, mean, spread), accepted.astype(np.float64)
    prior = np.zeros(known.shape[1])
    prior[: len(expected)] = expected[: len(prior)]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """The negative logarithm of the posterior, and its gradient (F + 1,)."""
        weights, logits = parameters[:-1], known @ parameters[:-1] + parameters[-1]
        off, errors = (weights - prior) / SPREAD**2, _logistic(logits) - right
        value = np.logaddexp(0, logits).sum() - right @ logits + (weights - prior) @ off / 2
        return float(value), np.append(errors @ known + off, errors.sum())

    found = minimize(loss, np.append(prior, 0.0), jac=True, method="BFGS").x.tolist()
    return Calibration(tuple(mean.tolist()), tuple(spread.tolist()), tuple(found[:-1]), found[-1])


def _mean_and_spread(signal: np.ndarray) -> tuple[float, float]:
    """Of those that are known; a signal that never varies gets a spread by which it counts nothing."""
    known = signal[np.isfinite(signal)]
    if not len(known):
        return 0.0, 1.0
    return float(known.mean()), float(known.std()) or 1.0


def _standardised(values: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    found = ((values - mean) / spread).clip(-FARTHEST, FARTHEST)
    return np.asarray(np.where(np.isnan(found), 0.0, found))


def _logistic(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


def _auroc(chances: np.ndarray, accepted: np.ndarray) -> float:
    """The share of pairs of an accepted and a changed draft in which the accepted one has the higher chance; equal
    chances count half (Mann & Whitney, 1947)."""
    yes, no = int(accepted.sum()), int((~accepted).sum())
    if not yes or not no:
        return float("nan")
    _, place, counts = np.unique(chances, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][accepted].sum() - yes * (yes + 1) / 2) / (yes * no))
