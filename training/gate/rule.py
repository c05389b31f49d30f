"""The gate's rule: from differences and their bounds to promote, reject or hold, with the reason in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Literal

from training.errors import TrainingError
from training.gate.bootstrap import Difference

PROMOTE: Literal["promote"] = "promote"
REJECT: Literal["reject"] = "reject"
HOLD: Literal["hold"] = "hold"
Outcome = Literal["promote", "reject", "hold"]

MARGIN: Literal["margin"] = "margin"
"""Policy: a candidate is promoted when it is at most a margin worse on every set and scores higher on corrections."""
IMPROVEMENT: Literal["improvement"] = "improvement"
"""Policy: a candidate is promoted only when it is better on every evaluation set."""
Policy = Literal["margin", "improvement"]

FIRST_LEVEL = 0.025
"""Significance level of the first look: each one-sided bound is wrong one time in forty."""
LATER_LEVELS = 0.0125
"""What the levels of all later looks add up to."""
MAX_MORE_PAIRS = 100_000
"""A verdict that needs more further pairs than this cannot be had by waiting."""


@dataclass(frozen=True)
class Comparison:
    """The difference of candidate and champion on the pairs of one evaluation set."""

    name: str
    pairs: int
    difference: Difference


@dataclass(frozen=True)
class Decision:
    """The outcome and its reason as one sentence. `more_pairs`: about how many further pairs would decide a hold."""

    outcome: Outcome
    reason: str
    more_pairs: int | None = None


def significance_level(interim_looks: int) -> float:
    """The level of a set's bounds after this many earlier comparisons on it, in the whole life of a project.

    Repeated tests on one set would in the end promote a lucky candidate. Therefore the looks share one error: the first
    spends 2.5 %, the k-th 1.25 % / (k (k - 1)), and all later ones together never more than 1.25 %. By Bonferroni's
    inequality the probability that any look promotes a candidate that it should not is at most 3.75 %, however many
    looks there are, however they depend on each other and however the set grows between them (alpha spending: Lan and
    DeMets, 1983, "Discrete sequential boundaries for clinical trials"; a series for endless hypotheses: Foster and
    Stine, 2008, "Alpha-investing"). The rest of 5 % allows for the bounds, which are approximate, and more so at small
    levels; `python -m benchmarks.gate` measures it. Raises TrainingError for a negative number.
    """
    if interim_looks < 0:
        raise TrainingError(f"An evaluation set cannot have judged {interim_looks} times before; count from 0.")
    return FIRST_LEVEL if interim_looks == 0 else LATER_LEVELS / (interim_looks * (interim_looks + 1))


def decide(
    comparisons: Sequence[Comparison],
    corrections: float,
    *,
    policy: Policy = MARGIN,
    margin: float = 1.0,
    missing: int = 0,
) -> Decision:
    """The decision on a candidate; `corrections` is its difference on all corrections together, in points.

    - Promote when on every set the lower bound is above minus `margin` (policy `improvement`: above 0) and
      `corrections` is above 0.
    - Otherwise reject when on some set the upper bound is below 0.
    - Otherwise hold.

    All sets must agree to a promotion, so further sets make a false one no likelier (Berger, 1982: intersection-union
    tests).

    While `missing` pairs of corrections are lacking for trustworthy bounds, the decision is provisional. A candidate is
    then promoted when the difference itself is at least minus `margin` on every set (`improvement`: above 0). It is
    rejected by the same bounds as ever: a rejection quarantines its corrections, and a few unlucky pairs are no
    evidence against them.
    """
    bar = -margin if policy == MARGIN else 0.0
    if missing:
        values = [each.difference.value for each in comparisons]
        passes = all(value > 0 or (policy == MARGIN and value >= bar) for value in values)
    else:
        passes = corrections > 0 and all(each.difference.lower > bar for each in comparisons)
    if passes:
        how = f"nowhere below the champion's by more than the margin of {margin:g}"
        if policy == IMPROVEMENT:
            how = "everywhere above the champion's"
        return Decision(PROMOTE, f"{_all(comparisons)}: {how}{', as far as so few pairs can say' if missing else ''}")
    lowest = min(comparisons, key=lambda each: each.difference.upper)
    if lowest.difference.upper < 0:
        return Decision(REJECT, f"BLEU-4 {shown(lowest)}: worse than the champion there")
    if missing:
        needed = f"{missing} more pair{' is' if missing == 1 else 's are'} needed to judge it"
        return Decision(HOLD, f"{_all(comparisons)}: perhaps worse; {needed}", missing)
    return _held(comparisons, corrections, bar)


def _held(comparisons: Sequence[Comparison], corrections: float, bar: float) -> Decision:
    """A hold, with about how many further pairs would decide.

    Were the difference to stay as it is, a set of N pairs instead of n would have bounds sqrt(n / N) times as far from
    it, because a standard error falls with the root of the pairs. A bound at a distance `reach` therefore passes a line
    at a distance `gap` when N = n (reach / gap)**2. A promotion needs that of the lower bound of every set, and a gain
    on corrections; a rejection needs it of the upper bound of one set. The smaller number is given, and none where the
    difference lies on the line or so close to it that MAX_MORE_PAIRS would not suffice.
    """
    promotion = max((_pairs_to(each, bar, up=True), each.name) for each in comparisons)
    if corrections <= 0:
        promotion = (inf, "")
    rejection = min((_pairs_to(each, 0.0, up=False), each.name) for each in comparisons)
    wanted, name = min(promotion, rejection)
    undecided = f"{_all(comparisons)}: neither good enough nor surely worse"
    if wanted > MAX_MORE_PAIRS:
        return Decision(HOLD, f"{undecided}, and so near to the line that more pairs are unlikely to decide")
    more = max(1, ceil(wanted))
    return Decision(HOLD, f"{undecided}; about {more} more pair{'s' if more != 1 else ''} of {name} would decide", more)


def _pairs_to(comparison: Comparison, line: float, *, up: bool) -> float:
    """Further pairs until the lower bound is above the line (`up`), or the upper bound below it."""
    difference = comparison.difference
    gap = difference.value - line if up else line - difference.value
    if gap <= 0:
        return inf
    reach = difference.value - difference.lower if up else difference.upper - difference.value
    return max(0.0, comparison.pairs * ((reach / gap) ** 2 - 1))


def _all(comparisons: Sequence[Comparison]) -> str:
    return "BLEU-4 " + ", ".join(shown(each) for each in comparisons)


def shown(comparison: Comparison) -> str:
    """The difference on the set with its bounds, in words."""
    difference = comparison.difference
    return f"{difference.value:+.1f} on {comparison.name} ({difference.lower:+.1f} to {difference.upper:+.1f})"
