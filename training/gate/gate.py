"""Decides whether a candidate may serve: evaluations in, a verdict out. Pure: no files, no clock, no models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from training.errors import TrainingError
from training.gate.evaluation_sets import BASE, BLIND, CORRECTIONS, Evaluation, EvaluationSet, ScoredSet, check, pool
from training.gate.rule import HOLD, IMPROVEMENT, MARGIN, PROMOTE, REJECT, Comparison, Decision, Policy, decide, shown
from training.gate.verdict import Change, Verdict
from training.metrics import Score

__all__ = [
    "BASE",
    "BLIND",
    "CORRECTIONS",
    "FIRM_PAIRS",
    "HOLD",
    "IMPROVEMENT",
    "MARGIN",
    "PROMOTE",
    "REJECT",
    "Evaluation",
    "EvaluationSet",
    "Verdict",
    "judge",
]

FIRM_PAIRS = 100
"""With fewer held-out pairs chance alone moves BLEU-4 by points, so that a verdict is provisional."""


def judge(
    sets: Sequence[EvaluationSet],
    *,
    policy: Policy = MARGIN,
    margin: float = 1.0,
    floor: float = 5.0,
    mismatch: str | None = None,
    protect_base: bool = False,
) -> Verdict:
    """Promote, reject or hold a candidate by nltk's BLEU-4; the rule is `training.gate.rule.decide`.

    `sets` are the held-out corrections, the blind tasks and the base data set, each at most once. The first two are
    pooled until each has FIRM_PAIRS pairs. While they have fewer together the verdict is provisional, and the caller
    judges again at FIRM_PAIRS. Without a champion the candidate is promoted when it reaches `floor` points on the
    corrections, and held otherwise, since a first model that is too weak needs more of them. Without corrections it is
    held. A `mismatch`, which says why its new captions seem to belong to other images, rejects it whatever its scores.
    The base data set decides with `protect_base` only; otherwise the verdict tells how much of it was forgotten.

    Raises TrainingError when evaluations cannot be compared: other evaluation set, references or decoding settings.
    """
    _check(sets, policy, margin)
    sets = [each for each in sets if each.candidate.hypotheses or each.candidate.references]
    corrections = [each for role in (CORRECTIONS, BLIND) for each in sets if each.role == role]
    together = ScoredSet(pool(corrections)) if corrections else None
    scored = [together] if together else []
    if len(corrections) > 1 and all(len(each.candidate.hypotheses) >= FIRM_PAIRS for each in corrections):
        scored = [ScoredSet(each) for each in corrections]
    base = [ScoredSet(each) for each in sets if each.role == BASE]
    pairs = together.pairs if together else 0
    missing = max(0, FIRM_PAIRS - pairs)

    if together is None:
        decision = Decision(HOLD, "no held-out corrections to judge by yet")
    elif together.difference is None:
        decision = _first(together.candidate.scores.bleu_4, floor)
    elif mismatch:
        decision = Decision(REJECT, mismatch)
    else:
        comparisons = _comparisons([*scored, *base] if protect_base else scored)
        decision = decide(comparisons, together.difference.value, policy=policy, margin=margin, missing=missing)
    reported = [] if protect_base else [shown(each) for each in _comparisons(base)]
    return Verdict(
        decision=decision.outcome,
        provisional=missing > 0,
        reason="; reported only: ".join([decision.reason, *reported]),
        pairs=pairs,
        champion_score=together.champion.scores.bleu_4 if together and together.champion else None,
        candidate_score=together.candidate.scores.bleu_4 if together else None,
        margin=margin,
        policy=policy,
        sets=tuple(each.verdict() for each in (*scored, *base)),
        forgetting=_forgetting(together, base),
        more_pairs=decision.more_pairs,
    )


def _comparisons(sets: Sequence[ScoredSet]) -> list[Comparison]:
    return [Comparison(each.name, each.pairs, each.difference) for each in sets if each.difference]


def _first(candidate: Score, floor: float) -> Decision:
    """The decision on a project's first model."""
    ours = f"{candidate.name} {candidate.value:.1f}"
    if candidate.value >= floor:
        return Decision(PROMOTE, f"{ours} reaches the floor of {floor:g} for a first model")
    return Decision(HOLD, f"{ours} is below the floor of {floor:g} for a first model")


def _forgetting(corrections: ScoredSet | None, base: Sequence[ScoredSet]) -> tuple[Change, ...]:
    """How scores changed on old knowledge: the base data set and the oldest tenth of the corrections."""
    changes = [each.change(each.name) for each in base]
    if corrections and (rows := corrections.oldest_tenth()):
        changes.append(corrections.change("the oldest tenth of the held-out corrections", rows))
    return tuple(change for change in changes if change is not None)


def _check(sets: Sequence[EvaluationSet], policy: str, margin: float) -> None:
    if policy not in get_args(Policy):
        raise TrainingError(f"There is no policy {policy!r} of the gate; there are {' and '.join(get_args(Policy))}.")
    if not margin >= 0:
        raise TrainingError(f"The margin of the gate must be 0 or more BLEU-4 points, not {margin}.")
    roles = [each.role for each in sets]
    for role in roles:
        if role not in (CORRECTIONS, BLIND, BASE) or roles.count(role) > 1:
            raise TrainingError(
                f"The gate takes one evaluation set of each role, corrections, blind or base, not {roles}."
            )
    if len({each.champion and each.champion.model for each in sets}) > 1 or len({s.candidate.model for s in sets}) > 1:
        raise TrainingError("The evaluation sets are of different models; evaluate the same two on all of them.")
    for each in sets:
        check(each)
