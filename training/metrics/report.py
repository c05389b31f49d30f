"""All scores of a set of captions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.metrics.bleu_score import bleu
from training.metrics.cider_score import cider_d_each, mean_score
from training.metrics.meteor_score import meteor
from training.metrics.rouge_score import rouge_l
from training.metrics.score import MetricUnavailableError, Score


@dataclass(frozen=True)
class Report:
    """Scores by the names `bleu1 bleu2 bleu3 bleu4 rouge_l cider_d meteor`, in this order.

    A score that cannot be had on this machine is None and `reasons` says why, by the same name. `each[i]` is the
    CIDEr-D x100 of hypothesis i, to find the best and the worst captions by.
    """

    scores: dict[str, Score | None]
    reasons: dict[str, str]
    each: tuple[float, ...]


def score_all(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Report:
    """Every score of the hypotheses; `references[i]` are the captions of the image that `hypotheses[i]` describes.

    Raises TrainingError for anything that would be scored silently wrong.
    """
    each = cider_d_each(hypotheses, references)
    scores: dict[str, Score | None] = {f"bleu{n}": bleu(hypotheses, references, n) for n in (1, 2, 3, 4)}
    scores["rouge_l"] = rouge_l(hypotheses, references)
    scores["cider_d"] = mean_score(each, references)
    reasons = {}
    try:
        scores["meteor"] = meteor(hypotheses, references)
    except MetricUnavailableError as error:
        scores["meteor"], reasons["meteor"] = None, str(error)
    return Report(scores, reasons, tuple(each))
