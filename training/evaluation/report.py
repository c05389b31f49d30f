"""An HTML page of an outcome: scores, their distribution, and the best and worst captions with their photos."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from dataclasses import dataclass
from statistics import median

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.data.transforms import thumbnail
from training.errors import DataError
from training.evaluation.outcome import Outcome
from training.metrics import Report, mean_length

SHOWN = 12  # best captions, and worst captions
BINS = 20
PHOTO = 320  # pixels of a photo's longer side


@dataclass(frozen=True)
class Bin:
    """The number of captions with a CIDEr-D between `low` and `high`; `share` is relative to the fullest bin."""

    low: float
    high: float
    count: int
    share: float


def page(outcome: Outcome, report: Report) -> str:
    """The page as one HTML file with the photos embedded. `report` is the outcome's own, which is not None here."""
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
    """The values in BINS bins of equal width, starting at 0."""
    width = max(5.0, -(-max(values) // (5 * BINS)) * 5)  # round the width up to a multiple of five
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(value / width))] += 1
    return [Bin(place * width, (place + 1) * width, count, count / max(counts)) for place, count in enumerate(counts)]


def _example(outcome: Outcome, number: int) -> dict[str, object]:
    """A caption with its photo as a data URI, which is empty if the photo cannot be read any more."""
    row, photo = outcome.rows[number], ""
    with suppress(DataError):
        jpeg = io.BytesIO()
        thumbnail(row.image, PHOTO).save(jpeg, "JPEG", quality=82, optimize=True)
        photo = f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode('ascii')}"
    return {
        "name": row.image_id or row.image.name,
        "photo": photo,
        "hypothesis": outcome.hypotheses[number],
        "references": row.references,
        "cider_d": outcome.each[number],
    }


_TEMPLATES = Environment(
    loader=PackageLoader("training.evaluation"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
