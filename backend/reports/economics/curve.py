"""A project's learning curve: word edits by the corrections that a version had learned, and what more would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backend.reports.economics import estimates
from backend.reports.economics.estimates import Estimate
from backend.reports.economics.measures import Measures

NEXT = 100
"""Corrections ahead for which an estimate is made."""
FEWEST_DRAFTS, FEWEST_VERSIONS = 10, 3
FLAT = 0.1
"""Words a draft: where the next corrections do not lower edits by as much, they teach little."""
SCALE = 25.0
"""Corrections at which the logarithm begins to bend: those of a first retrain."""
RESAMPLES, SEED, STEPS = 1000, 1, 40

State = Literal["falls", "flat", "unknown", "too little"]


@dataclass(frozen=True)
class Point:
    """The corrected drafts of a version that had learned so many corrections."""

    version: str
    learned: int
    corrections: int
    edits: Estimate


@dataclass(frozen=True)
class Curve:
    """The points, the fitted line with its 95 % band at some numbers of corrections, and the estimate in words.

    `now` and `then` are word edits a draft of a version that learned all `corrections` there are, and `NEXT` more;
    `fall` is the difference.
    """

    state: State
    text: str
    points: tuple[Point, ...]
    corrections: int
    line: tuple[tuple[float, Estimate], ...] = ()
    now: Estimate | None = None
    then: Estimate | None = None
    fall: Estimate | None = None


def learning_curve(rows: Measures, learned: Mapping[str, int], corrections: int) -> Curve:
    """A line in log(1 + n / SCALE), by least squares over the corrections of versions with enough of them.

    The interval is by bootstrap: corrections are resampled within each version. Where the versions scatter about the
    line more than their corrections explain, as models and tasks differ too, all deviations are widened as much.
    """
    values = {version: rows.edits[rows.version == version] for version in dict.fromkeys(rows.version.tolist())}
    points = tuple(
        Point(version, learned.get(version, 0), len(edits), estimates.mean(edits) or Estimate(0.0))
        for version, edits in values.items()
    )
    used = [point for point in points if point.corrections >= FEWEST_DRAFTS]
    distinct = len({point.learned for point in used})
    if distinct < FEWEST_VERSIONS:
        text = (
            f"There is too little to tell what further corrections teach: it takes {FEWEST_VERSIONS} versions that "
            f"learned different numbers of corrections, with {FEWEST_DRAFTS} corrected drafts each, and there "
            f"{'is' if distinct == 1 else 'are'} {distinct}."
        )
        return Curve("too little", text, points, corrections)
    weights = np.array([point.corrections for point in used], dtype=float)
    means = np.array([point.edits.value for point in used])
    numbers = np.array([point.learned for point in used], dtype=float)
    deviations = _deviations([values[point.version] for point in used])
    fitted = _Lines(numbers, means[None], weights)
    within = sum(float(((values[p.version] - p.edits.value) ** 2).sum()) for p in used) / (weights.sum() - len(used))
    about = float((weights * (means - fitted(numbers)[0]) ** 2).sum()) / (len(used) - 2)
    wider = max(1.0, about / within) ** 0.5 if within else 1.0
    resampled = _Lines(numbers, means + wider * deviations, weights)

    def at(number: float) -> Estimate:
        low, high = np.quantile(resampled(np.array([number])), [0.025, 0.975])
        return Estimate(float(fitted(np.array([number]))[0, 0]), float(low), float(high))

    ends = np.array([corrections, corrections + NEXT], dtype=float)
    falls = -np.diff(resampled(ends))[:, 0]
    fall = Estimate(float(-np.diff(fitted(ends))[0, 0]), *(float(each) for each in np.quantile(falls, [0.025, 0.975])))
    now, then = at(corrections), at(corrections + NEXT)
    line = tuple((float(number), at(number)) for number in np.linspace(0, corrections + NEXT, STEPS + 1))
    state = _state(fall)
    return Curve(state, _text(state, now, then, fall), points, corrections, line, now, then, fall)


def _deviations(values: list[np.ndarray]) -> np.ndarray:
    """How far the mean of each version lies from its own in each resample of its corrections: (RESAMPLES, versions).

    A resample is drawn as counts of the few different values, which is the same and takes no time.
    """
    chance = np.random.default_rng(SEED)
    columns = []
    for edits in values:
        different, times = np.unique(edits, return_counts=True)
        drawn = chance.multinomial(len(edits), times / len(edits), size=RESAMPLES)
        columns.append(drawn @ different / len(edits) - edits.mean())
    return np.column_stack(columns)


class _Lines:
    """The lines a + b log(1 + n / SCALE), but no lower than 0, nearest to rows of means (R, versions)."""

    def __init__(self, numbers: np.ndarray, means: np.ndarray, weights: np.ndarray) -> None:
        x = np.log1p(numbers / SCALE)
        self._middle = float((weights * x).sum() / weights.sum())
        centred = weights * (x - self._middle)
        self._slopes = means @ centred / float((centred * x).sum())
        self._means = means @ weights / weights.sum()

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """The heights at these numbers: (R, numbers); nothing has fewer than no edits."""
        heights = self._means[:, None] + self._slopes[:, None] * (np.log1p(numbers / SCALE) - self._middle)
        return np.maximum(heights, 0.0)


def _state(fall: Estimate) -> State:
    assert fall.low is not None
    assert fall.high is not None
    return "flat" if fall.high < FLAT else "falls" if fall.low > 0 else "unknown"


def _text(state: State, now: Estimate, then: Estimate, fall: Estimate) -> str:
    digits = 1 if f"{now.value:.1f}" != f"{then.value:.1f}" else 2
    change = f"from {now.value:.{digits}f} to {then.value:.{digits}f} words a draft"
    bounds = f"a fall of {fall.value:.2f}, 95 % interval {fall.low:.2f} to {fall.high:.2f}"
    if state == "flat":
        return (
            f"Labelling more of these teaches little now: the next {NEXT} corrections are expected to take edits "
            f"{change} ({bounds})."
        )
    if state == "falls":
        return f"The next {NEXT} corrections are expected to lower edits {change} ({bounds})."
    return (
        f"The next {NEXT} corrections may take edits {change}, but there is too little to tell whether they lower them "
        f"({bounds})."
    )
