"""May a candidate serve? Evaluations in, a verdict with its reason out. Pure: no files, no clock, no models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from training.errors import TrainingError
from training.gate import bootstrap
from training.gate.evaluation_sets import BASE, BLIND, CORRECTIONS, Evaluation, EvaluationSet, Measured, check, pool
from training.gate.rule import HOLD, IMPROVEMENT, MARGIN, PROMOTE, REJECT, Decision, Policy, Vote, decide
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
"""With fewer held-out pairs chance alone moves BLEU-4 by points, so the verdict is provisional."""


def judge(
    sets: Sequence[EvaluationSet],
    *,
    policy: Policy = MARGIN,
    margin: float = 1.0,
    floor: float = 5.0,
    resamples: int = bootstrap.RESAMPLES,
    mismatch: str | None = None,
) -> Verdict:
    """Promote, reject or hold a candidate by nltk's BLEU-4; `training.gate.rule.decide` has the rule.

    `sets` are the held-out corrections, the blind tasks and the base data set, as far as there are any, each once; the
    first two are pooled until each has FIRM_PAIRS pairs. While they have fewer together the verdict is provisional:
    judge again at FIRM_PAIRS. Without a champion the candidate must reach `floor` points on the corrections; below
    that it is held, since a first model that is too weak needs more of them. Without corrections it is held too. A
    `mismatch`, the reason to believe that its new captions belong to other images, rejects it, whatever its scores.

    Raises TrainingError when evaluations cannot be compared: other voting set, references or decoding settings.
    """
    _check(sets, policy, margin)
    sets = [each for each in sets if each.candidate.hypotheses or each.candidate.references]
    corrections = [each for role in (CORRECTIONS, BLIND) for each in sets if each.role == role]
    together = Measured(pool(corrections), resamples) if corrections else None
    voting = [together] if together else []
    if len(corrections) > 1 and all(len(each.candidate.hypotheses) >= FIRM_PAIRS for each in corrections):
        voting = [Measured(each, resamples) for each in corrections]
    base = [Measured(each, resamples) for each in sets if each.role == BASE]
    pairs = together.pairs if together else 0
    missing = max(0, FIRM_PAIRS - pairs)

    if together is None:
        decision = Decision(HOLD, "no held-out corrections to judge by yet")
    elif together.difference is None:
        decision = _first(together.candidate.scores.bleu_4, floor)
    elif mismatch:
        decision = Decision(REJECT, mismatch)
    else:
        votes = [Vote(each.name, each.pairs, each.difference) for each in voting + base if each.difference]
        decision = decide(votes, together.difference.value, policy=policy, margin=margin, missing=missing)
    return Verdict(
        decision=decision.word,
        provisional=missing > 0,
        reason=decision.reason,
        pairs=pairs,
        champion_score=together.champion.scores.bleu_4 if together and together.champion else None,
        candidate_score=together.candidate.scores.bleu_4 if together else None,
        margin=margin,
        policy=policy,
        sets=tuple(each.verdict() for each in voting + base),
        forgetting=_forgetting(together, base),
        more_pairs=decision.more_pairs,
    )


def _first(candidate: Score, floor: float) -> Decision:
    """The decision on a project's first model."""
    ours = f"{candidate.name} {candidate.value:.1f}"
    if candidate.value >= floor:
        return Decision(PROMOTE, f"{ours} reaches the floor of {floor:g} for a first model")
    return Decision(HOLD, f"{ours} is below the floor of {floor:g} for a first model")


def _forgetting(corrections: Measured | None, base: Sequence[Measured]) -> tuple[Change, ...]:
    """What became of old knowledge: on the base data set, and on the oldest tenth of the corrections."""
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
            raise TrainingError(f"The gate takes one voting set of each role, corrections, blind or base, not {roles}.")
    if len({each.champion and each.champion.model for each in sets}) > 1 or len({s.candidate.model for s in sets}) > 1:
        raise TrainingError("The voting sets are of different models; evaluate the same two on all of them.")
    for each in sets:
        check(each)
