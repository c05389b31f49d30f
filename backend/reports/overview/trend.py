"""Charts of a project over its model versions: BLEU-4 with verdicts, and what annotators keep and change of drafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from backend.reports import charts
from backend.reports.charts import Axis, Bar, Mark, Title
from backend.reports.economics import estimates
from backend.reports.economics.estimates import Z
from backend.reports.economics.text import percent
from backend.reports.overview.verdicts import Outcome, Words
from backend.store.registry import ModelVersion
from training.errors import TrainingError
from training.gate.verdict import SetVerdict, Verdict

BARS = 8
"""Versions in a chart of bars: the newest; the table has more."""
SHAPES: dict[Outcome, Literal["dot", "ring", "cross"]] = {
    "promoted": "dot", "passed": "ring", "held": "ring", "rejected": "cross", "not judged": "dot",
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A version, its verdict, and its BLEU-4 on the corrections it was judged by, with the 95 % interval of its
    difference from the champion of then; None where it was not scored, or there was no champion."""

    version: ModelVersion
    words: Words
    bleu_4: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0

    @property
    def score(self) -> str:
        """ "24.9 (23.1–26.7)"."""
        if self.bleu_4 is None:
            return "–"
        return f"{self.bleu_4:.1f}" + ("" if self.low is None else f" ({self.low:.1f}–{self.high:.1f})")


def judged(version: ModelVersion, words: Words) -> Judged:
    try:
        found = Verdict.from_json(version.verdict) if version.verdict else None
    except TrainingError:
        found = None
    scored = found and _of_corrections(found.sets)
    if not found or not scored:
        value = found.candidate_score.value if found and found.candidate_score else None
        return Judged(version, words, value, pairs=found.pairs if found else 0)
    value, difference = scored.candidate.bleu_4.value, scored.difference
    reach = Z * difference.error if difference and scored.pairs > 1 else None
    low, high = (None, None) if reach is None else (max(0.0, value - reach), min(100.0, value + reach))
    return Judged(version, words, value, low, high, scored.pairs)


def _of_corrections(sets: Sequence[SetVerdict]) -> SetVerdict | None:
    """The set of all held-out corrections together, else that of tasks with a draft, else that of blind ones."""
    roles = {each.role: each for each in sets}
    return next((roles[role] for role in ("pooled", "corrections", "blind") if role in roles), None)


def bleu(versions: Sequence[Judged], prefix: str) -> Markup:
    """BLEU-4 of the versions, the oldest first; names lose `prefix`, which all of a project's own begin with."""
    shown = [each for each in versions if each.bleu_4 is not None]
    if not shown:
        return Markup()
    names = tuple(_short(each.version.name.removeprefix(prefix)) for each in shown)
    marks = [
        Mark(
            *(float(place), each.bleu_4 or 0.0, each.low, each.high),
            note=f"{each.version.name}, {each.words.outcome}: BLEU-4 {each.score} on {each.pairs} held-out captions",
            shape=SHAPES[each.words.outcome],
        )
        for place, each in enumerate(shown)
    ]
    most = max(mark.high or mark.y for mark in marks)
    title = Title("bleu", "BLEU-4 of the model versions", "; ".join(mark.note for mark in marks))
    x = Axis("model version, the oldest first", -0.5, len(shown) - 0.5, names=names)
    curve = [Mark(mark.x, mark.y) for mark in marks if mark.shape == "dot"]
    return charts.line(title, x, Axis("BLEU-4", 0.0, most * 1.05 or 1.0), curve, marks)


def kept(versions: Sequence[Mapping[str, Any]]) -> Markup:
    """The share of drafts that were kept unchanged, by version."""
    rows = []
    for each in versions[-BARS:]:
        share = estimates.share(each["kept"], each["corrections"])
        assert share
        rows.append(Bar(each["version"], share.value, share.low, share.high, percent(share)))
    return _bars("kept", "Drafts kept unchanged, by the version that wrote them", rows, most=1.0)


def edited(versions: Sequence[Mapping[str, Any]]) -> Markup:
    """Words changed for each hundred of the captions, by version."""
    rows = [Bar(each["version"], 100 * each["edits"], note=f"{100 * each['edits']:.0f}") for each in versions[-BARS:]]
    most = max((row.value for row in rows), default=0.0)
    return _bars("edited", "Words changed of a hundred, by the version that wrote the draft", rows, max(100.0, most))


def _bars(name: str, title: str, rows: Sequence[Bar], most: float) -> Markup:
    if not rows:
        return Markup()
    summary = "; ".join(f"{row.label} {row.note}" for row in rows)
    return charts.bars(Title(name, title, summary), Axis("", 0.0, most), rows)


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}…"
