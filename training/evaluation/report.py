"""An outcome as one page for people: scores, how they are spread, the best and the worst captions with their photos."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.data.thumbnails import thumbnail
from training.errors import DataError
from training.evaluation.outcome import Outcome
from training.metrics import Report, mean_length

SHOWN = 12  # captions at each end
BINS = 20
PHOTO = 320  # pixels of its longer side


@dataclass(frozen=True)
class Example:
    """A caption with its photo as a data URI, empty where it cannot be read any more."""

    name: str
    photo: str
    hypothesis: str
    references: tuple[str, ...]
    cider_d: float


@dataclass(frozen=True)
class Bin:
    """How many captions have a CIDEr-D from `low` on; `share` is of the fullest bin."""

    low: float
    high: float
    count: int
    share: float


def page(outcome: Outcome, report: Report) -> str:
    """HTML in one piece, photos included, of an outcome and its scores."""
    ranked = sorted(
        (number for number, score in enumerate(outcome.each) if score is not None),
        key=lambda number: -(outcome.each[number] or 0.0),
    )
    shown = min(SHOWN, (len(ranked) + 1) // 2)
    references = [text for row in outcome.rows for text in row.references]
    return _TEMPLATES.get_template("report.html").render(
        outcome=outcome,
        report=report,
        bins=histogram(report.each),
        middle=median(report.each),
        human_length=mean_length(references),
        best=[_example(outcome, number) for number in ranked[:shown]],
        worst=[_example(outcome, number) for number in reversed(ranked[max(shown, len(ranked) - SHOWN) :])],
    )


def histogram(values: tuple[float, ...]) -> list[Bin]:
    """The values in bins of equal width from 0 to the highest."""
    width = max(5.0, -(-max(values) // (5 * BINS)) * 5)  # a multiple of five reads well
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(value / width))] += 1
    return [Bin(place * width, (place + 1) * width, count, count / max(counts)) for place, count in enumerate(counts)]


def _example(outcome: Outcome, number: int) -> Example:
    row = outcome.rows[number]
    name = row.image_id or row.image.name
    return Example(name, _photo(row.image), outcome.hypotheses[number], row.references, outcome.each[number] or 0.0)


def _photo(path: Path) -> str:
    try:
        small = thumbnail(path, PHOTO)
    except DataError:
        return ""
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode('ascii')}"


_TEMPLATES = Environment(
    loader=PackageLoader("training.evaluation"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
