"""The gate's decision with all figures behind it, as it is stored: plain data and its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from training.errors import TrainingError
from training.gate.bootstrap import Difference
from training.gate.rule import MARGIN, PROMOTE, REJECT, Outcome, Policy
from training.metrics import Score


@dataclass(frozen=True)
class Scores:
    """The scores of a model on an evaluation set. BLEU-4 decides, the others are reported beside it."""

    bleu_4: Score
    rouge_l: Score
    cider_d: Score


@dataclass(frozen=True)
class Example:
    """A pair on which the candidate lost much: `change` is of smoothed sentence BLEU-4 x100, below 0.

    `image` is its id in the evaluation, empty where it has none.
    """

    image: str
    references: tuple[str, ...]
    champion: str
    candidate: str
    change: float


@dataclass(frozen=True)
class SetVerdict:
    """The result on one evaluation set. Without a champion, `champion` and `difference` are None.

    `role` is `corrections`, `blind`, `base`, or `pooled` for the first two together; a pool's `set_hash` is theirs
    joined by `+`. `interim_looks` counts the earlier verdicts on the set, and the significance level follows from it.
    """

    name: str
    role: str
    pairs: int
    set_hash: str
    interim_looks: int
    level: float
    champion: Scores | None
    candidate: Scores
    difference: Difference | None
    worst: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Change:
    """Candidate's less champion's BLEU-4 and CIDEr-D, both in points (x100), on what was learnt long ago.

    `of` names these pairs. Of few pairs the figures say little.
    """

    of: str
    pairs: int
    bleu_4: float
    cider_d: float


@dataclass(frozen=True)
class Verdict:
    """The decision on a candidate and why.

    `pairs` and the two scores (BLEU-4) are of all held-out corrections together; the scores are None where there was
    nothing to score, the champion's also where there is none. `more_pairs` is about how many further pairs would
    decide on a candidate that is held. Fields that verdicts of earlier releases lack have defaults.
    """

    decision: Outcome
    provisional: bool
    reason: str
    pairs: int
    champion_score: Score | None
    candidate_score: Score | None
    margin: float
    policy: Policy = MARGIN
    sets: tuple[SetVerdict, ...] = ()
    forgetting: tuple[Change, ...] = ()
    more_pairs: int | None = None

    @property
    def promotes(self) -> bool:
        return self.decision == PROMOTE

    @property
    def rejects(self) -> bool:
        return self.decision == REJECT

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Verdict:
        """The inverse of `to_json`; reads the verdicts of earlier releases too. Raises TrainingError for others."""
        try:
            return cls(
                **{
                    **value,
                    "champion_score": _score(value["champion_score"]),
                    "candidate_score": _score(value["candidate_score"]),
                    "sets": tuple(_set(each) for each in value.get("sets", ())),
                    "forgetting": tuple(Change(**each) for each in value.get("forgetting", ())),
                }
            )
        except (TypeError, KeyError) as error:
            raise TrainingError(f"This is not a verdict: {value!r}.") from error


_RENAMED = {"looks": "interim_looks"}
"""Names in the verdicts of earlier releases."""


def _set(value: dict[str, Any]) -> SetVerdict:
    champion, difference = value["champion"], value["difference"]
    made = {
        "champion": _scores(champion) if champion else None,
        "candidate": _scores(value["candidate"]),
        "difference": Difference(**difference) if difference else None,
        "worst": tuple(Example(**{**each, "references": tuple(each["references"])}) for each in value["worst"]),
    }
    renamed = {_RENAMED.get(name, name): part for name, part in value.items()}
    return SetVerdict(**{**renamed, **made})


def _scores(value: dict[str, Any]) -> Scores:
    return Scores(**{name: Score(**score) for name, score in value.items()})


def _score(value: dict[str, Any] | None) -> Score | None:
    return Score(**value) if value else None
