"""Evaluation sets: captions of the same images by candidate and champion, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from training.errors import TrainingError
from training.gate import bootstrap
from training.gate.bootstrap import Difference
from training.gate.rule import significance_level
from training.gate.verdict import Change, Example, Scores, SetVerdict
from training.metrics import bleu, cider_d_each, rouge_l
from training.metrics.bleu_statistics import bleu_statistics, sentence_bleu_4
from training.metrics.cider_score import mean_score

CORRECTIONS: Literal["corrections"] = "corrections"
"""Role: held-out corrections of drafts."""
BLIND: Literal["blind"] = "blind"
"""Role: captions of tasks without a draft, so that they contain no model's words."""
BASE: Literal["base"] = "base"
"""Role: development images of the data set that the first model was trained on."""
POOLED: Literal["pooled"] = "pooled"
"""Role of the first two together, as long as one of them is too small to be tested alone."""
Role = Literal["corrections", "blind", "base", "pooled"]

WORST = 5
"""Examples kept of each evaluation set."""


@dataclass(frozen=True)
class Evaluation:
    """A model's captions of an evaluation set: `hypotheses[i]` against the captions `references[i]`.

    `set_hash` is the content hash of the set's rows and `decoding` the signature of beam, length penalty and so on:
    evaluations can be compared only where both are equal. `ids[i]` names the image, so that a caller can find it again.
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
    """Both models on the same images. `champion` is None where there is none yet.

    `interim_looks` counts the earlier comparisons on this set, whoever the candidates were. `times[i]`, in any unit,
    says when pair i was corrected, so that the oldest can be watched; it is empty where that is unknown.
    """

    role: Role
    candidate: Evaluation
    champion: Evaluation | None = None
    interim_looks: int = 0
    times: tuple[float, ...] = ()


def check(evaluation_set: EvaluationSet) -> None:
    """Raise TrainingError unless both evaluations have the same images, references and decoding settings."""
    candidate, champion = evaluation_set.candidate, evaluation_set.champion
    pairs = len(candidate.hypotheses)
    for what, count in (("ids", len(candidate.ids)), ("times", len(evaluation_set.times))):
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
    """One evaluation set of all pairs, with the most interim looks of any part.

    Raises TrainingError when models or decoding settings differ between the parts.
    """
    first = sets[0]
    if len(sets) == 1:
        return first
    champions = [each.champion for each in sets if each.champion is not None]
    if len(champions) not in (0, len(sets)):
        raise TrainingError("Some evaluation sets have a champion and some have none; evaluate it on all of them.")
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


class ScoredEvaluation:
    """One evaluation with its scores. Raises TrainingError when it cannot be scored."""

    def __init__(self, evaluation: Evaluation) -> None:
        texts, references = evaluation.hypotheses, evaluation.references
        try:
            self.cider_d_each = cider_d_each(texts, references)
            self.statistics = bleu_statistics(texts, references)
            cider_d = mean_score(self.cider_d_each, references)
            self.scores = Scores(bleu(texts, references), rouge_l(texts, references), cider_d)
        except TrainingError as error:
            raise TrainingError(
                f"The evaluation of {evaluation.model} on {evaluation.evaluation_set} is wrong: {error}"
            ) from error


class ScoredSet:
    """An evaluation set with the scores of both models and their difference with its bounds."""

    def __init__(self, evaluation_set: EvaluationSet) -> None:
        candidate, champion = evaluation_set.candidate, evaluation_set.champion
        self.evaluation_set, self.name, self.pairs = evaluation_set, candidate.evaluation_set, len(candidate.hypotheses)
        self.level = significance_level(evaluation_set.interim_looks)
        self.candidate = ScoredEvaluation(candidate)
        self.champion = ScoredEvaluation(champion) if champion is not None else None
        self.difference: Difference | None = None
        if self.champion is not None:
            counts = bootstrap.resamples(self.pairs)
            self.difference = bootstrap.compare(self.champion.statistics, self.candidate.statistics, counts, self.level)

    def verdict(self) -> SetVerdict:
        """The result, with the pairs on which the candidate lost most, the worst first."""
        candidate, champion = self.evaluation_set.candidate, self.evaluation_set.champion
        worst: list[Example] = []
        if champion is not None and self.champion is not None:
            lost = sentence_bleu_4(self.candidate.statistics) - sentence_bleu_4(self.champion.statistics)
            worst = [
                Example(
                    image=candidate.ids[row] if candidate.ids else "",
                    references=candidate.references[row],
                    champion=champion.hypotheses[row],
                    candidate=candidate.hypotheses[row],
                    change=float(lost[row]),
                )
                for row in np.argsort(lost, kind="stable")[:WORST].tolist()
                if lost[row] < 0
            ]
        return SetVerdict(
            name=self.name,
            role=self.evaluation_set.role,
            pairs=self.pairs,
            set_hash=candidate.set_hash,
            interim_looks=self.evaluation_set.interim_looks,
            level=self.level,
            champion=self.champion.scores if self.champion else None,
            candidate=self.candidate.scores,
            difference=self.difference,
            worst=tuple(worst),
        )

    def change(self, of: str, rows: Sequence[int] | None = None) -> Change | None:
        """Candidate's less champion's scores on all pairs or on some rows; None without a champion."""
        if self.champion is None:
            return None
        rows = range(self.pairs) if rows is None else rows
        bleu_4 = bootstrap.corpus_difference(self.champion.statistics[rows], self.candidate.statistics[rows])
        cider_d = [np.mean([side.cider_d_each[row] for row in rows]) for side in (self.candidate, self.champion)]
        return Change(of, len(rows), bleu_4, float(cider_d[0] - cider_d[1]))

    def oldest_tenth(self) -> list[int]:
        """The tenth of the rows corrected first, at least one; none where times are unknown."""
        order = sorted(range(len(self.evaluation_set.times)), key=self.evaluation_set.times.__getitem__)
        return order[: -(-len(order) // 10)]
