"""Whether people accept drafts that are no better: acceptance is compared with what blind tasks say of the drafts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from backend.reports.economics.blind import BlindSlice
from backend.reports.economics.estimates import normal_tail
from backend.store.drafts.outcomes import CorrectedDraft

FEWEST_CORRECTIONS, FEWEST_BLIND = 50, 20
"""Fewest corrected drafts, and blind tasks with a withheld draft, in either half."""
LEVEL = 0.05
"""Significance of the rise in acceptance, and the chance at which a rise in BLEU-4 is excluded; both one-sided."""
LEAST_RISE = 1.0
"""A rise in BLEU-4 that is worth the name, in points; the gate's margin by default."""

State = Literal["warning", "fine", "unknown"]


@dataclass(frozen=True)
class Half:
    """The earlier or the later half of the drafts, and BLEU-4 of withheld drafts by the same versions in the
    same proportions."""

    corrections: int
    unchanged: int
    tasks: int = 0
    bleu_4: float | None = None

    @property
    def share(self) -> float:
        return self.unchanged / self.corrections if self.corrections else 0.0


@dataclass(frozen=True)
class Waving:
    """A warning, that there is none, or that it cannot be told; `text` has the numbers of both tests.

    `p` is the probability of such a rise in acceptance by chance; `low` and `high` bound the change of BLEU-4, each
    wrong with a probability of 5 %.
    """

    state: State
    text: str
    before: Half
    after: Half
    p: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None


def waving(corrected: Sequence[CorrectedDraft], blind: BlindSlice) -> Waving:
    """Compare the earlier half of the drafts with the later one.

    A warning takes two results: unedited acceptance rose (two-proportion z test), and the bootstrap over blind tasks
    excludes that BLEU-4 of the drafts rose by `LEAST_RISE`. That it did not rise significantly would not do: of few
    blind tasks hardly any rise is significant. A draft that was withheld because it is hardly ever accepted counts as
    not accepted: else acceptance would rise when such drafts are no longer shown.
    """
    rows = [each for each in corrected if each.version and each.draft is not None and not each.blind]
    middle = len(rows) // 2
    halves = rows[:middle], rows[middle:]
    before, after = (Half(len(half), sum(each.texts == (each.draft,) for each in half)) for half in halves)
    if min(before.corrections, after.corrections) < FEWEST_CORRECTIONS:
        text = f"It takes {2 * FEWEST_CORRECTIONS} corrected drafts to tell whether people wave drafts through."
        return Waving("unknown", text, before, after)
    p = _p_of_rise(before, after)
    acceptance = f"from {_share(before)} to {_share(after)} (one-sided z test of two proportions: p {_shown(p)})"
    if p >= LEVEL:
        return Waving("fine", f"Unedited acceptance did not rise significantly: {acceptance}.", before, after, p)
    mixes = [Counter(str(each.version) for each in half) for half in halves]
    weights = [{name: count / mix.total() for name, count in mix.items()} for mix in mixes]
    tasks = [blind.number(*mix) for mix in mixes]
    if min(tasks) < FEWEST_BLIND or min(map(blind.share_drafted, weights)) < 0.5:
        text = (
            f"Unedited acceptance rose {acceptance}. Whether the drafts got better cannot be told: blind tasks with a "
            f"withheld draft are {tasks[0]} and {tasks[1]}, and it takes {FEWEST_BLIND} of either half."
        )
        return Waving("unknown", text, before, after, p)
    (earlier, resampled_earlier), (later, resampled_later) = map(blind.mixed, weights)
    before = Half(before.corrections, before.unchanged, tasks[0], earlier)
    after = Half(after.corrections, after.unchanged, tasks[1], later)
    change = later - earlier
    low, high = (float(bound) for bound in np.quantile(resampled_later - resampled_earlier, [LEVEL, 1 - LEVEL]))
    drafts = (
        f"BLEU-4 of the drafts on {blind.number(*mixes[0], *mixes[1])} blind tasks went from {earlier:.1f} to "
        f"{later:.1f} (change {change:+.1f}, 90 % bootstrap interval {low:+.1f} to {high:+.1f})"
    )
    state: State
    if high < LEAST_RISE:
        state, text = "warning", f"People may be waving drafts through: unedited acceptance rose {acceptance}, but "
        text += f"{drafts}, which excludes a rise of {LEAST_RISE:g}."
    elif low > 0:
        state, text = "fine", f"Unedited acceptance rose {acceptance}, and so did the drafts: {drafts}."
    else:
        state, text = "unknown", f"Unedited acceptance rose {acceptance}. Whether the drafts got better cannot be told "
        text += f"yet: {drafts}."
    return Waving(state, text, before, after, p, change, low, high)


def _p_of_rise(before: Half, after: Half) -> float:
    """The probability of such a rise if both shares were the same."""
    pooled = (before.unchanged + after.unchanged) / (before.corrections + after.corrections)
    error = sqrt(pooled * (1 - pooled) * (1 / before.corrections + 1 / after.corrections))
    return normal_tail((after.share - before.share) / error) if error else 1.0


def _shown(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"


def _share(half: Half) -> str:
    return f"{half.share:.1%} of {half.corrections}"
