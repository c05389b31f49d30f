"""Estimates with their 95 % confidence intervals, in closed form, so that 100,000 corrections take no time."""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054
"""What a normal variable exceeds, on either side, with a probability of 2.5 %."""


class Estimate(NamedTuple):
    """A value and the bounds of its 95 % confidence interval; None where so few rows give none."""

    value: float
    low: float | None = None
    high: float | None = None


def share(number: int, of: int) -> Estimate | None:
    """A share, with the interval of Wilson (1927), which holds for few rows and for shares near 0 or 1 too."""
    if not of:
        return None
    value = number / of
    middle = (value + Z**2 / (2 * of)) / (1 + Z**2 / of)
    half = Z * sqrt(value * (1 - value) / of + Z**2 / (4 * of**2)) / (1 + Z**2 / of)
    return Estimate(value, max(0.0, middle - half), min(1.0, middle + half))


def mean(values: np.ndarray) -> Estimate | None:
    """A mean, with the interval of Student's t."""
    return ratio(values, np.ones(len(values)))


def ratio(parts: np.ndarray, wholes: np.ndarray) -> Estimate | None:
    """Sum over sum, with the interval of Student's t for what the rows deviate from it (linearisation).

    Where no part is below 0, the interval is not either.
    """
    rows, total = len(wholes), float(wholes.sum())
    if not total:
        return None
    value = float(parts.sum()) / total
    if rows == 1:
        return Estimate(value)
    error = sqrt(float(((parts - value * wholes) ** 2).sum()) / (rows - 1) * rows) / total
    half = student(rows - 1) * error
    low = value - half if parts.min() < 0 else max(0.0, value - half)
    return Estimate(value, low, value + half)


def median(values: np.ndarray) -> Estimate | None:
    """A median between the values whose ranks bound it with a probability of 95 % (normal approximation of the
    binomial): lead times have long tails, which would make a mean and its interval useless."""
    values = np.sort(values[~np.isnan(values)])
    rows = len(values)
    if not rows:
        return None
    below, above = floor(rows / 2 - Z * sqrt(rows) / 2), ceil(rows / 2 + 1 + Z * sqrt(rows) / 2)
    value = float(np.median(values))
    if below < 1:
        return Estimate(value)
    return Estimate(value, float(values[below - 1]), float(values[above - 1]))


def difference(one: Estimate | None, other: Estimate | None) -> Estimate | None:
    """One estimate less another of other rows, with an interval from theirs (Zou and Donner, 2008)."""
    if one is None or other is None:
        return None
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value)
    down = sqrt((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
    up = sqrt((one.high - one.value) ** 2 + (other.value - other.low) ** 2)
    return Estimate(value, value - down, value + up)


def student(freedom: int) -> float:
    """What a t variable with these degrees of freedom exceeds, on either side, with a probability of 2.5 %."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def normal_tail(z: float) -> float:
    """The probability that a normal variable exceeds z."""
    from scipy.special import ndtr

    return float(ndtr(-z))
