"""What a candidate is judged on: both models' captions of the same images, and all that can be counted of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from training.errors import TrainingError
from training.gate import bootstrap
from training.gate.bootstrap import Difference
from training.gate.rule import level_of
from training.gate.verdict import Change, Example, Scores, SetVerdict
from training.metrics import bleu, cider_d_each, rouge_l
from training.metrics.bleu_statistics import bleu_statistics, corpus_bleu_4, sentence_bleu_4
from training.metrics.cider_score import mean_score

CORRECTIONS: Literal["corrections"] = "corrections"
"""Role: corrections of drafts, held out."""
BLIND: Literal["blind"] = "blind"
"""Role: captions of tasks that showed no draft, so that no model's words are in them."""
BASE: Literal["base"] = "base"
"""Role: the development images of the data set that the first model learnt from."""
POOLED: Literal["pooled"] = "pooled"
"""Role of the first two together, as long as one of them is too small to be asked alone."""
Role = Literal["corrections", "blind", "base", "pooled"]

WORST = 5
"""Examples kept of each voting set."""


@dataclass(frozen=True)
class Evaluation:
    """What a model says about a voting set: `hypotheses[i]` against the captions `references[i]`.

    `set_hash` is the content hash of the voting set's rows, `decoding` names beam, length penalty and the like:
    evaluations compare only where both are equal. `ids[i]` names the image, for a caller who wants to find it again.
    """

    model: str
    evaluation_set: str
    set_hash: str
    decoding: str
    hypotheses: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationSet:
    """Both models on one voting set. `champion` None: there is none yet.

    `interim_looks` counts the earlier verdicts on this set, whoever the candidates were. `times[i]`, in any unit, says
    when pair i was corrected, so that the oldest can be watched; it is empty where that is unknown.
    """

    role: Role
    candidate: Evaluation
    champion: Evaluation | None = None
    interim_looks: int = 0
    times: tuple[float, ...] = ()


def check(voting: EvaluationSet) -> None:
    """Raise TrainingError unless the two evaluations are of the same images, references and decoding settings."""
    candidate, champion = voting.candidate, voting.champion
    pairs = len(candidate.hypotheses)
    for what, count in (("ids", len(candidate.ids)), ("times", len(voting.times))):
        if count not in (0, pairs):
            raise TrainingError(f"{candidate.evaluation_set} has {pairs} pairs but {count} {what}; give all or none.")
    if champion is None:
        return
    for what in ("evaluation_set", "set_hash", "decoding", "references", "ids"):
        ours, theirs = getattr(candidate, what), getattr(champion, what)
        if ours != theirs:
            shown = f" ({theirs[:40]} and {ours[:40]})" if isinstance(ours, str) else ""
            raise TrainingError(
                f"{champion.model} and {candidate.model} cannot be compared: their evaluations differ in {what}{shown}."
            )


def pool(sets: Sequence[EvaluationSet]) -> EvaluationSet:
    """One voting set of all the pairs. It has been looked at as often as the part that was looked at most.

    Raises TrainingError when the parts are of other models or decoding settings.
    """
    first = sets[0]
    if len(sets) == 1:
        return first
    champions = [each.champion for each in sets if each.champion is not None]
    if len(champions) not in (0, len(sets)):
        raise TrainingError("Some voting sets have a champion and some have none; evaluate it on all of them.")
    timed = all(each.times for each in sets)
    return EvaluationSet(
        role=POOLED,
        candidate=_joined([each.candidate for each in sets]),
        champion=_joined(champions) if champions else None,
        interim_looks=max(each.interim_looks for each in sets),
        times=sum((each.times for each in sets), ()) if timed else (),
    )


def _joined(parts: Sequence[Evaluation]) -> Evaluation:
    first = parts[0]
    for other in parts[1:]:
        for what in ("model", "decoding"):
            if getattr(other, what) != getattr(first, what):
                raise TrainingError(
                    f"{first.evaluation_set} and {other.evaluation_set} cannot be pooled: they differ in {what}."
                )
    named = all(each.ids for each in parts)
    return replace(
        first,
        evaluation_set=" and ".join(each.evaluation_set for each in parts),
        set_hash="+".join(each.set_hash for each in parts),
        hypotheses=sum((each.hypotheses for each in parts), ()),
        references=sum((each.references for each in parts), ()),
        ids=sum((each.ids for each in parts), ()) if named else (),
    )


class Side:
    """What can be counted of one evaluation. Raises TrainingError when it cannot be scored."""

    def __init__(self, evaluation: Evaluation) -> None:
        said, expected = evaluation.hypotheses, evaluation.references
        try:
            self.scores_each = cider_d_each(said, expected)
            self.statistics = bleu_statistics(said, expected)
            self.scores = Scores(bleu(said, expected), rouge_l(said, expected), mean_score(self.scores_each, expected))
        except TrainingError as error:
            raise TrainingError(
                f"The evaluation of {evaluation.model} on {evaluation.evaluation_set} is wrong: {error}"
            ) from error


class Measured:
    """A voting set with what both models score on it, and how sure their difference is."""

    def __init__(self, voting: EvaluationSet, resamples: int = bootstrap.RESAMPLES) -> None:
        self.voting, self.name, self.pairs = voting, voting.candidate.evaluation_set, len(voting.candidate.hypotheses)
        self.level = level_of(voting.interim_looks)
        self.candidate = Side(voting.candidate)
        self.champion = Side(voting.champion) if voting.champion is not None else None
        self.difference: Difference | None = None
        if self.champion is not None:
            counts = bootstrap.resamples(self.pairs, resamples)
            self.difference = bootstrap.compare(self.champion.statistics, self.candidate.statistics, counts, self.level)

    def verdict(self) -> SetVerdict:
        return SetVerdict(
            name=self.name,
            role=self.voting.role,
            pairs=self.pairs,
            set_hash=self.voting.candidate.set_hash,
            interim_looks=self.voting.interim_looks,
            level=self.level,
            champion=self.champion.scores if self.champion else None,
            candidate=self.candidate.scores,
            difference=self.difference,
            worst=self._worst(),
        )

    def change(self, of: str, rows: Sequence[int] | None = None) -> Change | None:
        """What the candidate gained or lost on all pairs or on some; None without a champion."""
        if self.champion is None:
            return None
        rows = range(self.pairs) if rows is None else rows
        gained = [
            float(corpus_bleu_4(side.statistics[rows].sum(axis=0, dtype=np.float64)))
            for side in (self.candidate, self.champion)
        ]
        told = [np.mean([side.scores_each[row] for row in rows]) for side in (self.candidate, self.champion)]
        return Change(of, len(rows), gained[0] - gained[1], float(told[0] - told[1]))

    def oldest_tenth(self) -> list[int]:
        """The rows corrected longest ago, at least one; none where times are not known."""
        order = sorted(range(len(self.voting.times)), key=self.voting.times.__getitem__)
        return order[: -(-len(order) // 10)]

    def _worst(self) -> tuple[Example, ...]:
        """Where the candidate lost most, the worst first."""
        candidate, champion = self.voting.candidate, self.voting.champion
        if champion is None or self.champion is None:
            return ()
        lost = sentence_bleu_4(self.candidate.statistics) - sentence_bleu_4(self.champion.statistics)
        return tuple(
            Example(
                image=candidate.ids[row] if candidate.ids else "",
                references=candidate.references[row],
                champion=champion.hypotheses[row],
                candidate=candidate.hypotheses[row],
                change=float(lost[row]),
            )
            for row in np.argsort(lost, kind="stable")[:WORST].tolist()
            if lost[row] < 0
        )
