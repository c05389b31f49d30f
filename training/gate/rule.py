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
Word = Literal["promote", "reject", "hold"]

MARGIN: Literal["margin"] = "margin"
"""Policy: promoted is what is not worse by more than a margin, and looks better on corrections."""
IMPROVEMENT: Literal["improvement"] = "improvement"
"""Policy: promoted is only what is better on every voting set."""
Policy = Literal["margin", "improvement"]

LEVEL = 0.025
"""Of a first look: one-sided bounds that are wrong one time in forty."""
LATER_LEVEL = 0.0125
"""Of all later looks together."""
MOST_PAIRS = 100_000
"""A verdict that needs more than so many further pairs will not be had by waiting."""


@dataclass(frozen=True)
class Vote:
    """What a voting set says: the difference of candidate and champion on its pairs."""

    name: str
    pairs: int
    difference: Difference


@dataclass(frozen=True)
class Decision:
    """The word, its reason as one sentence, and for `hold` about how many further pairs would decide, if any would."""

    word: Word
    reason: str
    more_pairs: int | None = None


def level_of(looks: int) -> float:
    """The level of a set's bounds when it has judged `looks` times before.

    Whoever asks one set often enough is promoted by luck. So the looks share an error: the first may spend 2.5 %, the
    k-th 1.25 % / (k (k - 1)), which together never make more than another 1.25 %. By Bonferroni's inequality the chance
    that any of the looks promotes what it should not is then at most 3.75 %, however many there are and whatever they
    have in common (alpha spending: Lan and DeMets, 1983, "Discrete sequential boundaries for clinical trials"; with
    such a series for hypotheses without end: Foster and Stine, 2008, "Alpha-investing"). What is left of 5 % is for the
    bounds, which are approximate, and the more so the smaller their level; `python -m benchmarks.gate` measures it.
    """
    if looks < 0:
        raise TrainingError(f"A voting set cannot have judged {looks} times before; count from 0.")
    return LEVEL if looks == 0 else LATER_LEVEL / (looks * (looks + 1))


def decide(
    votes: Sequence[Vote],
    corrections: float,
    *,
    policy: Policy = MARGIN,
    margin: float = 1.0,
    missing: int = 0,
) -> Decision:
    """What becomes of a candidate that differs so on the voting sets, and by `corrections` points on all corrections.

    Promoted when on every set the lower bound is above minus `margin` (policy `improvement`: above 0) and
    `corrections` is above 0; otherwise rejected when some set's upper bound is below 0; otherwise held. As every set
    must agree to a promotion, several sets make a false one no likelier (Berger, 1982: intersection-union tests).

    While `missing` pairs of corrections are wanting for bounds to be trusted, the decision is provisional: promoted is
    what is on every set not below by more than the margin (`improvement`: above 0). What is not, is rejected only
    where even those bounds say that it is worse: a rejection holds the corrections back, and a few unlucky pairs are no
    evidence against them.
    """
    bar = -margin if policy == MARGIN else 0.0
    if missing:
        passes = all(vote.difference.value > 0 or (policy == MARGIN and vote.difference.value >= bar) for vote in votes)
    else:
        passes = corrections > 0 and all(vote.difference.lower > bar for vote in votes)
    if passes:
        how = f"nowhere below the champion's by more than the margin of {margin:g}"
        if policy == IMPROVEMENT:
            how = "everywhere above the champion's"
        return Decision(PROMOTE, f"{_all(votes)}: {how}{', as far as so few pairs can say' if missing else ''}")
    lowest = min(votes, key=lambda vote: vote.difference.upper)
    if lowest.difference.upper < 0:
        return Decision(REJECT, f"BLEU-4 {_one(lowest)}: worse than the champion there")
    if missing:
        return Decision(HOLD, f"{_all(votes)}: perhaps worse; {missing} more pairs are needed to judge it", missing)
    return _held(votes, corrections, bar)


def _held(votes: Sequence[Vote], corrections: float, bar: float) -> Decision:
    """Not decided. About how many further pairs would decide?

    Were the difference what it is now, a set of N pairs instead of n would have bounds sqrt(n / N) times as far from
    it, because a standard error goes with one over the square root of the pairs. So a bound that lies `reach` away
    passes a line that is `gap` away at N = n (reach / gap)**2. A promotion needs that of the lower bound of every set,
    and something gained on corrections; a rejection of the upper bound of one. Whatever is nearer is told; where the
    difference lies on a line itself, or so near that MOST_PAIRS would not do, no number is.
    """
    promotion = max((_pairs_to(vote, bar, up=True), vote.name) for vote in votes)
    if corrections <= 0:
        promotion = (inf, "")
    rejection = min((_pairs_to(vote, 0.0, up=False), vote.name) for vote in votes)
    wanted, name = min(promotion, rejection)
    undecided = f"{_all(votes)}: neither good enough nor surely worse"
    if wanted > MOST_PAIRS:
        return Decision(HOLD, f"{undecided}, and so near to the line that more pairs are unlikely to decide")
    more = max(1, ceil(wanted))
    return Decision(HOLD, f"{undecided}; about {more} more pairs of {name} would decide", more)


def _pairs_to(vote: Vote, line: float, *, up: bool) -> float:
    """Further pairs until the vote's lower bound is above the line (`up`), or its upper bound below it."""
    found = vote.difference
    gap = found.value - line if up else line - found.value
    if gap <= 0:
        return inf
    reach = found.value - found.lower if up else found.upper - found.value
    return max(0.0, vote.pairs * ((reach / gap) ** 2 - 1))


def _all(votes: Sequence[Vote]) -> str:
    return "BLEU-4 " + ", ".join(_one(vote) for vote in votes)


def _one(vote: Vote) -> str:
    found = vote.difference
    return f"{found.value:+.1f} on {vote.name} ({found.lower:+.1f} to {found.upper:+.1f})"
