"""What a captioner said of a data set, and how well, where people captioned the images too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.data.manifest import Row
from training.metrics import Report, distinct_words, mean_length, score_all
from training.vocabulary import tokenize

SCORES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider_d", "meteor")
"""The names of all scores, in the order of a Report."""


@dataclass(frozen=True)
class Outcome:
    """`hypotheses[i]` is what `checkpoint` said of `rows[i]` with `decoding`, and `each[i]` its CIDEr-D.

    Rows without human captions are not scored: they are None in `each`. `report` is of all others, None where there are
    none, and `subsets` of those of each subset of the data set.
    """

    checkpoint: str
    decoding: str
    rows: tuple[Row, ...]
    hypotheses: tuple[str, ...]
    report: Report | None
    each: tuple[float | None, ...]
    subsets: dict[str, Report]

    @property
    def scored(self) -> int:
        """How many of the rows are scored."""
        return sum(score is not None for score in self.each)

    @property
    def distinct_words(self) -> int:
        return distinct_words(self.hypotheses)

    @property
    def mean_length(self) -> float:
        """Words a caption."""
        return mean_length(self.hypotheses)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with all of it."""
        return {
            "checkpoint": self.checkpoint,
            "decoding": self.decoding,
            **scores_to_json(self.report),
            "distinct_words": self.distinct_words,
            "mean_length": self.mean_length,
            "subsets": {name: _values(report) for name, report in self.subsets.items()},
            "images": [
                {
                    "image": row.image.name,
                    "image_id": row.image_id,
                    "sha256": row.sha256,
                    "hypothesis": told,
                    "references": list(row.references),
                    "cider_d": score,
                }
                for row, told, score in zip(self.rows, self.hypotheses, self.each, strict=True)
            ],
        }


def scores_to_json(report: Report | None) -> dict[str, Any]:
    """`scores` and `signatures` by name, and why those that are null are `unavailable`."""
    if report is None:
        return {
            "scores": dict.fromkeys(SCORES),
            "signatures": dict.fromkeys(SCORES),
            "unavailable": dict.fromkeys(SCORES, "No image has a human caption."),
        }
    return {
        "scores": _values(report),
        "signatures": {name: score.signature if score else None for name, score in report.scores.items()},
        "unavailable": report.reasons,
    }


def is_captioned(row: Row) -> bool:
    """Whether people said anything of the image that can be compared with."""
    return any(tokenize(text) for text in row.references)


def judge(checkpoint: str, decoding: str, rows: Sequence[Row], hypotheses: Sequence[str]) -> Outcome:
    """Score what the captioner said of the rows. Raises TrainingError for what cannot be scored."""
    captioned = [number for number, row in enumerate(rows) if is_captioned(row)]
    subsets: dict[str, list[int]] = defaultdict(list)
    for number in captioned:
        if rows[number].subset:
            subsets[rows[number].subset].append(number)

    def scored(numbers: Sequence[int]) -> Report:
        return score_all([hypotheses[number] for number in numbers], [rows[number].references for number in numbers])

    report = scored(captioned) if captioned else None
    each: list[float | None] = [None] * len(rows)
    for number, score in zip(captioned, report.each if report else (), strict=True):
        each[number] = score
    return Outcome(
        checkpoint=checkpoint,
        decoding=decoding,
        rows=tuple(rows),
        hypotheses=tuple(hypotheses),
        report=report,
        each=tuple(each),
        subsets={name: scored(numbers) for name, numbers in sorted(subsets.items())},
    )


def _values(report: Report) -> dict[str, float | None]:
    return {name: score.value if score else None for name, score in report.scores.items()}
