"""May a candidate serve? Two evaluations in, a verdict with its reason out. Pure: no files, no clock, no models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from training.errors import TrainingError
from training.metrics import Score, bleu

PROMOTE: Literal["promote"] = "promote"
REJECT: Literal["reject"] = "reject"

FIRM_PAIRS = 100
"""Below so many held-out pairs chance alone moves BLEU-4 by points, so the verdict is marked provisional."""


@dataclass(frozen=True)
class Evaluation:
    """What a model says about a voting set: `hypotheses[i]` against the captions `references[i]`.

    `set_hash` is the content hash of the voting set's rows, `decoding` names beam, length penalty and the like:
    evaluations compare only where both are equal.
    """

    model: str
    voting_set: str
    set_hash: str
    decoding: str
    hypotheses: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Verdict:
    """The decision on a candidate and why. Scores are None where there was nothing to score."""

    decision: Literal["promote", "reject"]
    provisional: bool
    reason: str
    pairs: int
    champion_score: Score | None
    candidate_score: Score | None
    margin: float

    @property
    def promotes(self) -> bool:
        return self.decision == PROMOTE

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Verdict:
        """The inverse of `to_json`. Raises TrainingError for anything else."""
        try:
            scores = {name: Score(**value[name]) if value[name] else None for name in _SCORES}
            return cls(**{**value, **scores})
        except (TypeError, KeyError) as error:
            raise TrainingError(f"This is not a verdict: {value!r}.") from error


_SCORES = ("champion_score", "candidate_score")


def judge(champion: Evaluation | None, candidate: Evaluation, *, margin: float = 1.0, floor: float = 5.0) -> Verdict:
    """Promote a candidate whose BLEU-4 is not below the champion's by more than `margin` points.

    Without a champion the candidate must reach `floor`. Nothing is promoted on an empty voting set. Raises
    TrainingError when the two evaluations cannot be compared: other voting set, references or decoding settings.
    """
    if champion is not None:
        _check_comparable(champion, candidate)
    pairs = len(candidate.hypotheses)
    if not pairs and not candidate.references:
        return Verdict(REJECT, True, "no held-out corrections to judge by yet", 0, None, None, margin)
    candidate_score = _score(candidate)
    champion_score = _score(champion) if champion is not None else None
    if champion_score is not None and champion_score.signature != candidate_score.signature:
        raise TrainingError(
            f"The scores cannot be compared: {champion_score.signature} against {candidate_score.signature}."
        )
    passes, reason = _vote(champion_score, candidate_score, margin, floor)
    decision = PROMOTE if passes else REJECT
    return Verdict(decision, pairs < FIRM_PAIRS, reason, pairs, champion_score, candidate_score, margin)


def _vote(champion: Score | None, candidate: Score, margin: float, floor: float) -> tuple[bool, str]:
    """The judgement of one voting set: whether the candidate passes, and why."""
    ours = f"{candidate.name} {candidate.value:.1f}"
    if champion is None:
        if candidate.value >= floor:
            return True, f"{ours} reaches the floor of {floor:g} for a first model"
        return False, f"{ours} is below the floor of {floor:g} for a first model"
    theirs = f"the champion's {champion.value:.1f}"
    short = champion.value - candidate.value
    if short <= 0:
        return True, f"{ours} is not below {theirs}"
    if short <= margin:
        return True, f"{ours} is below {theirs} by {short:.1f}, within the margin of {margin:g}"
    return False, f"{ours} is below {theirs} by {short:.1f}, more than the margin of {margin:g}"


def _score(evaluation: Evaluation) -> Score:
    try:
        return bleu(evaluation.hypotheses, evaluation.references)
    except TrainingError as error:
        raise TrainingError(
            f"The evaluation of {evaluation.model} on {evaluation.voting_set} is wrong: {error}"
        ) from error


def _check_comparable(champion: Evaluation, candidate: Evaluation) -> None:
    for what in ("voting_set", "set_hash", "decoding", "references"):
        if getattr(champion, what) != getattr(candidate, what):
            raise TrainingError(
                f"{champion.model} and {candidate.model} cannot be compared: their evaluations differ in {what}"
                + ("." if what == "references" else f" ({_short(champion, what)} and {_short(candidate, what)}).")
            )


def _short(evaluation: Evaluation, what: str) -> str:
    text: Sequence[str] = getattr(evaluation, what)
    return str(text)[:40]
