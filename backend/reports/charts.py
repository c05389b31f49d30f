"""Charts as inline SVG: no script, nothing fetched, and colours of the page around them, light or dark.

The page gives the colours as `--ink`, `--faint`, `--line` and `--accent`. Widths are those of a phone, so that texts
stay readable on one; a wider page shows the same larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import Literal

from markupsafe import Markup, escape

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 40, 18, 24, 40
HEIGHT = 230
ROW = 34
"""Height of a bar with the label above it."""
TICKS = 5
LETTER = 6
"""Width of a letter, about."""

STYLE = Markup(
    ".chart { display: block; width: 100%; max-width: 40rem; height: auto; }"
    ".chart text { font: 11px system-ui, sans-serif; fill: var(--faint); }"
    ".chart .label { fill: var(--ink); }"
    ".chart .axis { stroke: var(--line); fill: none; }"
    ".chart .mark { fill: var(--accent); }"
    ".chart .ring { fill: var(--card); stroke: var(--accent); stroke-width: 2; }"
    ".chart .cross { fill: none; stroke: var(--accent); stroke-width: 3; }"
    ".chart .curve { stroke: var(--accent); fill: none; stroke-width: 2; }"
    ".chart .band { fill: var(--accent); opacity: .18; }"
    ".chart .bound { stroke: var(--ink); fill: none; }"
    ".chart .ideal { stroke: var(--faint); fill: none; stroke-dasharray: 4 4; }"
)
"""What a page with charts has in its `<style>`."""


@dataclass(frozen=True)
class Mark:
    """A value with its interval, its kind told by its shape. `note` is told when pointed at, and by screen readers."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    shape: Literal["dot", "ring", "cross"] = "dot"


@dataclass(frozen=True)
class Bar:
    """A labelled value with its interval, as shown in `note`."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Title:
    """What a chart shows: `name` is unique on the page, `title` and `summary` are what screen readers say."""

    name: str
    title: str
    summary: str


@dataclass(frozen=True)
class Axis:
    """A label, and the least and greatest value shown; `percent` shows shares as percentages.

    `names` stand at 0, 1, 2 and so on in place of numbers, as many as there is room for.
    """

    label: str
    low: float
    high: float
    percent: bool = False
    names: tuple[str, ...] = ()
    ticks: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        ticks = _places(self.names) if self.names else _ticks(self.low, self.high)
        object.__setattr__(self, "ticks", ticks)

    def text(self, tick: float) -> str:
        if self.names:
            return self.names[int(tick)]
        return f"{tick:.0%}" if self.percent else f"{tick:g}"

    def at(self, value: float) -> float:
        """The place of a value between 0 and 1."""
        return (value - self.low) / ((self.high - self.low) or 1.0)


def line(title: Title, x: Axis, y: Axis, curve: Sequence[Mark], marks: Sequence[Mark] = ()) -> Markup:
    """A curve in the band of its intervals, and single values with theirs."""
    plot = _Plot(x, y)
    parts = [plot.axes()]
    bounded = [(mark.x, mark.low, mark.high) for mark in curve if mark.low is not None and mark.high is not None]
    if bounded:
        edge = [(at, high) for at, _, high in bounded] + [(at, low) for at, low, _ in reversed(bounded)]
        parts.append(f'<polygon class="band" points="{plot.path(edge)}"/>')
    if curve:
        parts.append(f'<polyline class="curve" points="{plot.path([(mark.x, mark.y) for mark in curve])}"/>')
    return _svg(title, HEIGHT, [*parts, *map(plot.mark, marks)])


def reliability(title: Title, x: Axis, y: Axis, marks: Sequence[Mark]) -> Markup:
    """Shares against the chances that were given, beside the diagonal on which both are the same."""
    plot = _Plot(x, y, WIDTH - LEFT - RIGHT)
    ends = plot.path([(x.low, x.low), (x.high, x.high)])
    parts = [plot.axes(), f'<polyline class="ideal" points="{ends}"/>', *map(plot.mark, marks)]
    return _svg(title, TOP + plot.height + BOTTOM, parts)


def bars(title: Title, axis: Axis, rows: Sequence[Bar]) -> Markup:
    """A bar a row, below its label and note, with its interval."""
    bottom = ROW * len(rows)

    def across(value: float) -> float:
        return 1 + (WIDTH - RIGHT - 1) * min(max(axis.at(value), 0.0), 1.0)

    parts = [f'<line class="axis" x1="1" y1="0" x2="1" y2="{bottom}"/>']
    for number, row in enumerate(rows):
        top = ROW * number
        start, end = sorted((across(0.0), across(row.value)))
        parts.append(f'<text class="label" x="1" y="{top + 12}">{escape(row.label)}</text>')
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{top + 12}" text-anchor="end">{escape(row.note)}</text>')
        parts.append(
            f'<rect class="mark" x="{start:.1f}" y="{top + 17}" width="{end - start:.1f}" height="10" rx="2"/>'
        )
        if row.low is not None and row.high is not None:
            parts.append(_bound(across(row.low), top + 22, across(row.high), top + 22))
    return _svg(title, bottom + 4, parts)


class _Plot:
    """The area between two axes."""

    def __init__(self, x: Axis, y: Axis, height: float = HEIGHT - TOP - BOTTOM) -> None:
        self.x, self.y, self.height = x, y, height

    def across(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * self.x.at(value)

    def up(self, value: float) -> float:
        return TOP + self.height * (1 - self.y.at(value))

    def path(self, places: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{self.across(x):.1f},{self.up(y):.1f}" for x, y in places)

    def axes(self) -> str:
        """Grid lines, and the numbers and names of both axes."""
        bottom = TOP + self.height
        parts = []
        for tick in self.y.ticks:
            height = self.up(tick)
            parts.append(f'<line class="axis" x1="{LEFT}" y1="{height:.1f}" x2="{WIDTH - RIGHT}" y2="{height:.1f}"/>')
            parts.append(_tick(LEFT - 4, height + 4, self.y.text(tick), "end"))
        parts += [_tick(self.across(tick), bottom + 15, self.x.text(tick), "middle") for tick in self.x.ticks]
        parts.append(f'<text class="label" x="{LEFT}" y="{bottom + 33:.0f}">{escape(self.x.label)}</text>')
        parts.append(f'<text class="label" x="4" y="11">{escape(self.y.label)}</text>')
        return "".join(parts)

    def mark(self, mark: Mark) -> str:
        across = self.across(mark.x)
        interval = ""
        if mark.low is not None and mark.high is not None:
            interval = _bound(across, self.up(mark.low), across, self.up(mark.high))
        note = f"<title>{escape(mark.note)}</title>" if mark.note else ""
        up = self.up(mark.y)
        if mark.shape == "cross":
            drawn = f'<path class="cross" d="M{across - 4:.1f} {up - 4:.1f}l8 8m0 -8l-8 8">{note}</path>'
        else:
            kind = "ring" if mark.shape == "ring" else "mark"
            drawn = f'<circle class="{kind}" cx="{across:.1f}" cy="{up:.1f}" r="4">{note}</circle>'
        return interval + drawn


def _bound(x: float, y: float, other_x: float, other_y: float) -> str:
    return f'<line class="bound" x1="{x:.1f}" y1="{y:.1f}" x2="{other_x:.1f}" y2="{other_y:.1f}"/>'


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: Title, height: float, parts: Iterable[str]) -> Markup:
    name = escape(title.name)
    return Markup(  # noqa: S704 - every text is escaped, here or where its part is made
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="{name}-title '
        f'{name}-summary"><title id="{name}-title">{escape(title.title)}</title>'
        f'<desc id="{name}-summary">{escape(title.summary)}</desc>{"".join(parts)}</svg>'
    )


def _places(names: Sequence[str]) -> tuple[float, ...]:
    """Every name, or every second and so on, counted back from the last, so that none is written over another."""
    widest = max(map(len, names)) * LETTER + 8
    every = max(1, ceil(len(names) * widest / (WIDTH - LEFT - RIGHT)))
    return tuple(float(place) for place in range((len(names) - 1) % every, len(names), every))


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """About `TICKS` round numbers from the least to the greatest value."""
    span = high - low
    if not span > 0:
        return (low,)
    rough = span / TICKS
    size = 10 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return tuple(round(number * step, 10) for number in range(first, last + 1))
