"""Charts as inline SVG: what they show is where it should be, is told to screen readers, and is no way in."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from backend.reports.charts import STYLE, WIDTH, Axis, Bar, Mark, Title, bars, line, reliability

TITLE = Title("edits", "Words <changed>", "v1 & v2")
SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def of_class(svg: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [tag for tag in svg.iter() if tag.get("class") == name]


def charts() -> list[ElementTree.Element]:
    share, learned = Axis("accepted", 0.0, 1.0, percent=True), Axis("corrections", 0.0, 300.0)
    marks = [Mark(0.0, 0.2, 0.1, 0.4, "<b>first</b>"), Mark(300.0, 1.0, 0.5, 1.0, "last")]
    chances = [Mark(0.1, 0.2, 0.1, 0.3), Mark(0.9, 0.8)]
    rows = [Bar("v1", 0.5, 0.25, 0.75, "50% <25–75>"), Bar("<script>", 0.0)]
    return [
        drawn(line(TITLE, learned, share, marks, marks)),
        drawn(reliability(TITLE, Axis("chance", 0.0, 1.0), share, chances)),
        drawn(bars(TITLE, share, rows)),
    ]


def test_each_says_what_it_is_and_shows_texts_as_texts() -> None:
    for svg in charts():
        names = (svg.get("aria-labelledby") or "").split()
        told = {tag.get("id"): tag.text for tag in svg.iter() if tag.get("id")}
        assert (svg.get("role"), [told[name] for name in names]) == ("img", ["Words <changed>", "v1 & v2"])
        tags = {tag.tag.removeprefix(SVG) for tag in svg.iter()}
        assert tags <= {"svg", "title", "desc", "text", "line", "rect", "circle", "polygon", "polyline"}


def test_everything_is_within_the_picture() -> None:
    for svg in charts():
        _, _, width, height = map(float, (svg.get("viewBox") or "").split())
        assert width == WIDTH
        for tag in svg.iter():
            points = [pair.split(",") for pair in (tag.get("points") or "").split()]
            across = [tag.get(name) for name in ("x", "x1", "x2", "cx")] + [x for x, _ in points]
            down = [tag.get(name) for name in ("y", "y1", "y2", "cy")] + [y for _, y in points]
            assert all(0 <= float(value) <= width for value in across if value is not None)
            assert all(0 <= float(value) <= height for value in down if value is not None)


def test_values_stand_where_the_axes_say() -> None:
    curve, chances, rows = charts()
    first, last = of_class(curve, "mark")
    left, right = (float(mark.get("cx") or "") for mark in (first, last))
    ticks = {tag.text: tag for tag in of_class(curve, "tick")}
    assert float(ticks["0"].get("x") or "") == left
    assert float(ticks["300"].get("x") or "") == right
    assert {"0%", "20%", "100%"} <= ticks.keys()
    assert abs(float(ticks["100%"].get("y") or "") - float(last.get("cy") or "")) < 5, "beside its grid line"
    assert [tag.text for tag in curve.iter(f"{SVG}title")][1:] == ["<b>first</b>", "last"]
    [ideal] = of_class(chances, "ideal")
    (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in (ideal.get("points") or "").split())
    assert x2 - x1 == pytest.approx(y1 - y2), "as wide as high, so that the diagonal is one"
    half, none = of_class(rows, "mark")
    [bound] = of_class(rows, "bound")
    ends = [float(bound.get(name) or "") for name in ("x1", "x2")]
    start, width = (float(half.get(name) or "") for name in ("x", "width"))
    assert start + width == pytest.approx(sum(ends) / 2)
    assert float(none.get("width") or "1") == 0


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0.0, 2.75, (0.0, 1.0, 2.0)),
        (0.0, 320.0, (0.0, 100.0, 200.0, 300.0)),
        (0.0, 0.0, (0.0,)),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert Axis("x", low, high).ticks == ticks


def test_colours_are_those_of_the_page() -> None:
    assert "#" not in STYLE
    assert {"--ink", "--faint", "--line", "--accent"} <= {part.split(")")[0] for part in STYLE.split("var(")[1:]}
