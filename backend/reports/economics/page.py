"""The draft economics of a project as one HTML file: no script, nothing fetched, readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from backend.domain.errors import CaptionerError
from backend.reports import charts
from backend.reports.charts import Axis, Bar, Mark, Title
from backend.reports.economics import estimates
from backend.reports.economics.curve import Curve
from backend.reports.economics.estimates import Estimate
from backend.reports.economics.groups import Economics
from backend.reports.economics.report import Report
from backend.reports.economics.text import (
    INTERVALS,
    LEFT_OUT,
    Form,
    bounds,
    kinds,
    number,
    percent,
    score,
    seconds,
    value,
)
from training.runtime.console import counted
from training.runtime.files import atomic_file

BARS = 12
"""Most versions in a chart: the newest; the table has all."""


def save(found: Report, out: Path) -> None:
    """Raises CaptionerError when the file cannot be written."""
    try:
        with atomic_file(out) as unfinished:
            unfinished.write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise CaptionerError(f"{out} cannot be written: {error.strerror}.") from error


def page(found: Report) -> str:
    versions = found.versions
    return _TEMPLATES.get_template("economics.html").render(
        found=found,
        style=charts.STYLE,
        cards=_cards(found.total) if found.total else (),
        intervals=INTERVALS,
        accepted=_shares("accepted", "Drafts accepted unchanged, by version", versions[-BARS:]),
        curve=_curve(found.curve),
        reasons=_reasons(found.reasons),
        reliability=_reliability(found.score["reliability"]),
        score=score(found),
        groups=[
            ("version", [*versions, *([found.total] if found.total else [])]),
            ("annotator", found.annotators),
            ("selection", found.selections),
        ],
        kinds=kinds(found),
        left_out=LEFT_OUT if found.selections else "",
    )


def _cards(total: Economics) -> list[tuple[str, Estimate | None, Form, str]]:
    """The figures of all drafts: what each is, how it is written, and its unit."""
    return [
        ("accepted unchanged", total.unchanged, "%", ""),
        ("with at most one word changed", total.within_one, "%", ""),
        ("words changed a draft", total.edits, 2, ""),
        ("keystrokes saved", total.keystrokes, "%", ""),
        ("lead time with a draft", total.seconds, 1, " s"),
        ("lead time without one (blind tasks)", total.without, 1, " s"),
        ("a draft saves", total.saved, 1, " s"),
    ]


def _shares(name: str, title: str, groups: Sequence[Economics]) -> Markup:
    rows = [
        Bar(each.name, each.unchanged.value, each.unchanged.low, each.unchanged.high, percent(each.unchanged))
        for each in groups
    ]
    summary = "; ".join(f"{row.label} {row.note}" for row in rows)
    return charts.bars(Title(name, title, summary), Axis("", 0.0, 1.0, percent=True), rows)


def _curve(curve: Curve) -> Markup:
    """The versions' mean edits and the fitted line; an empty text where no draft was corrected."""
    if not curve.points:
        return Markup()
    marks = [
        Mark(
            *(float(point.learned), point.edits.value, point.edits.low, point.edits.high),
            note=f"{point.version}, {counted(point.learned, 'correction')} learned: {number(point.edits)} words",
        )
        for point in curve.points
    ]
    line = [Mark(at, each.value, each.low, each.high) for at, each in curve.line]
    most = max(mark.high or mark.y for mark in (*marks, *line))
    x = Axis("corrections learned", 0.0, max([1.0, *(mark.x for mark in (*marks, *line))]))
    summary = "; ".join(mark.note for mark in marks)
    title = Title("curve", "Words changed a draft, by the corrections its version had learned", summary)
    return charts.line(title, x, Axis("words changed a draft", 0.0, most or 1.0), line, marks)


def _reasons(reasons: dict[str, int]) -> Markup:
    rows = [Bar(reason, float(times), note=str(times)) for reason, times in reasons.items()]
    if not rows:
        return Markup()
    summary = "; ".join(f"{row.label} {row.note}" for row in rows)
    title = Title("reasons", "Why drafts were wrong, as annotators chose", summary)
    return charts.bars(title, Axis("", 0.0, max(row.value for row in rows)), rows)


def _reliability(measured: Mapping[str, Any] | None) -> Markup:
    """The share of drafts that were accepted, by the chance that was given; an empty text where nothing is learned."""
    if measured is None:
        return Markup()
    marks = []
    for each in measured["bins"]:
        accepted = estimates.share(round(each["accepted"] * each["number"]), each["number"])
        if accepted:
            note = f"chance {each['chance']:.0%}: {percent(accepted)} of {each['number']} accepted"
            marks.append(Mark(each["chance"], *accepted, note=note))
    title = Title("reliability", "Accepted drafts, by the chance that was given", "; ".join(m.note for m in marks))
    most = max((max(mark.x, mark.high or mark.y) for mark in marks), default=1.0)
    end = next(end for end in (0.1, 0.2, 0.5, 1.0) if most <= end or end == 1.0)  # hardly any may be accepted
    given, share = (Axis(what, 0.0, end, percent=True) for what in ("chance that was given", "share accepted"))
    return charts.reliability(title, given, share, marks)


_TEMPLATES = Environment(
    loader=PackageLoader("backend.reports.economics"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(percent=percent, number=number, seconds=seconds, value=value, bounds=bounds, counted=counted)
