"""The draft economics of a project as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from backend.reports import scores
from backend.reports.economics.estimates import Estimate
from backend.reports.economics.groups import Economics
from backend.reports.economics.report import BlindScore, Report
from training.runtime.console import counted, table

INTERVALS = (
    "In brackets: 95 % confidence intervals; of shares by Wilson, of means by Student's t, of medians by ranks, of "
    "BLEU-4 and of the estimate by bootstrap."
)
LEFT_OUT = "BLEU-4, the warning and the estimate leave out what a strategy selected: it selects what is hard."
HEAD = ("corrected", "unchanged", "within a word", "edits a draft", "in/del/repl", "keystrokes saved", "lead time")
BLIND = ("blind tasks", "BLEU-4")


def text(found: Report) -> str:
    """All figures but those of charts."""
    return "\n".join(_lines(found))


def _lines(found: Report) -> Iterable[str]:
    yield f"Project {found.project}: {kinds(found)}."
    if found.total is None:
        yield "No draft has been corrected yet."
        return
    yield from ("", _table("drafts of", [*found.versions, found.total], found.blind_scores))
    if found.annotators:
        yield from ("", _table("corrected by", found.annotators))
    if found.selections:
        yield from ("", _table("tasks", found.selections))
    total = found.total
    yield ""
    if total.without:
        yield (
            f"Lead time: {seconds(total.seconds)} with a draft, {seconds(total.without)} without one (blind tasks); a "
            f"draft saves {seconds(total.saved)}."
        )
    if found.reasons:
        given = ", ".join(f"{reason} {times}" for reason, times in found.reasons.items())
        yield f"Why drafts were wrong: {given}."
    if found.hints:
        asked = ", ".join(f"{word} {times}" for word, times in found.hints.items())
        yield f"Asked for in hints, and not in the draft: {asked}."
    yield f"{'Warning: ' if found.waving.state == 'warning' else ''}{found.waving.text}"
    yield found.curve.text
    yield score(found)
    if found.selections:
        yield LEFT_OUT
    yield INTERVALS


def kinds(found: Report) -> str:
    """How many corrections there are, and of what."""
    parts = ", ".join(f"{times} {kind}" for kind, times in found.kinds.items())
    return f"{counted(found.corrections, 'correction')}: {parts}"


def score(found: Report) -> str:
    """What the score means, in the words of `captioner status`."""
    told = "; ".join(" ".join(line.split()) for line in scores.lines(found.score))
    return f"Score: {told.removeprefix('score ')}."


def _table(name: str, groups: Sequence[Economics], blind: Mapping[str, BlindScore] | None = None) -> str:
    rows = [(name, *HEAD, *(BLIND if blind is not None else ()))]
    for each in groups:
        parts = "/".join(f"{part.value:.2f}" for part in (each.inserted, each.deleted, each.replaced))
        row = [each.name, str(each.corrections), percent(each.unchanged), percent(each.within_one), number(each.edits)]
        row += [parts, percent(each.keystrokes), seconds(each.seconds)]
        if blind is not None:
            score = blind.get(each.name, BlindScore(0, None))
            row += [str(score.tasks), number(score.bleu_4, 1)]
        rows.append(tuple(row))
    return table(rows, "<" + ">" * (len(rows[0]) - 1))


def percent(found: Estimate | None) -> str:
    """A share, such as "31% (27–36)"."""
    return "–" if found is None else f"{value(found, '%')}{bounds(found, '%')}"


def number(found: Estimate | None, digits: int = 2) -> str:
    """A number, such as "2.14 (1.90–2.38)"."""
    return "–" if found is None else f"{value(found, digits)}{bounds(found, digits)}"


def seconds(found: Estimate | None) -> str:
    """A time span, such as "12.5 s (11.0–14.2)"."""
    return "–" if found is None else f"{value(found, 1)} s{bounds(found, 1)}"


Form = int | Literal["%"]
"""How a number is written: with so many digits, or as a percentage."""


def value(found: Estimate, form: Form) -> str:
    return f"{found.value:.0%}" if form == "%" else f"{found.value:.{form}f}"


def bounds(found: Estimate, form: Form) -> str:
    """Its interval in brackets; empty where there is none."""
    if found.low is None or found.high is None:
        return ""
    low, high = (f"{100 * each:.0f}" if form == "%" else f"{each:.{form}f}" for each in (found.low, found.high))
    return f" ({low} to {high})" if found.low < 0 else f" ({low}–{high})"
