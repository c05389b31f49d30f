"""The captions that a captioner generated for a data set, and their scores where the images have references."""

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


MANY = 10
"""Images that are too many to be alike."""


@dataclass(frozen=True)
class Outcome:
    """`hypotheses[i]` is the caption by `checkpoint` of `rows[i]` with `decoding`, and `each[i]` its CIDEr-D.

    Rows without references are not scored: their entry in `each` is None. `report` scores all others (None if there are
    none), and `subsets` those of each subset of the data set.
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
        """The number of rows with a score."""
        return sum(score is not None for score in self.each)

    @property
    def distinct_words(self) -> int:
        return distinct_words(self.hypotheses)

    @property
    def mean_length(self) -> float:
        """The mean number of words of a caption."""
        return mean_length(self.hypotheses)

    @property
    def warning(self) -> str:
        """What shows that the captions tell nothing of their images, as a sentence; empty where nothing does."""
        images = len({row.sha256 or row.image for row in self.rows})
        if images > 1 and self.distinct_words <= 1:
            return f"The captions of all {images} images are made of one word: the captioner has learned nothing."
        if images >= MANY and len(set(self.hypotheses)) == 1:
            return f"All {images} images have the same caption: it does not depend on them."
        return ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object with all scores, and an entry for each image."""
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
                    "hypothesis": hypothesis,
                    "references": list(row.references),
                    "cider_d": score,
                }
                for row, hypothesis, score in zip(self.rows, self.hypotheses, self.each, strict=True)
            ],
        }


def scores_to_json(report: Report | None) -> dict[str, Any]:
    """`scores` and `signatures` by name, and under `unavailable` the reason for each that is null."""
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


def has_references(row: Row) -> bool:
    """Whether at least one reference caption of the image has a word in it."""
    return any(tokenize(text) for text in row.references)


def score(checkpoint: str, decoding: str, rows: Sequence[Row], hypotheses: Sequence[str]) -> Outcome:
    """Score the captions of the rows against their references. Raises TrainingError as the metrics do."""
    captioned = [number for number, row in enumerate(rows) if has_references(row)]
    subsets: dict[str, list[int]] = defaultdict(list)
    for number in captioned:
        if rows[number].subset:
            subsets[rows[number].subset].append(number)

    def scored(numbers: Sequence[int]) -> Report:
        return score_all([hypotheses[number] for number in numbers], [rows[number].references for number in numbers])

    report = scored(captioned) if captioned else None
    each: list[float | None] = [None] * len(rows)
    for number, cider_d in zip(captioned, report.each if report else (), strict=True):
        each[number] = cider_d
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
