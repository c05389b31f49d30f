"""Draws docs/loop.svg: how a draft becomes a correction, and a correction a better draft."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

OUT = Path(__file__).parents[1] / "loop.svg"
WIDTH, HEIGHT = 960, 400
BOX = 76  # pixels of height
PAPER, INK, FAINT, LINE = "#ffffff", "#1c1e26", "#5b6070", "#3f51b5"
ABOUT = (
    "An annotator corrects drafts in Label Studio, which asks the ML backend for them. Each correction is committed to "
    "SQL, a worker retrains on them, and a gate decides whether the new version serves."
)

BOXES = {
    "annotator": (30, 50, 170, "Annotator", "corrects, submits"),
    "studio": (300, 50, 190, "Label Studio", "tasks, drafts, captions"),
    "backend": (690, 50, 230, "ML backend", "drafts by the champion"),
    "sql": (300, 250, 190, "Corrections", "in SQL, each with its draft"),
    "worker": (570, 250, 150, "Worker", "retrains"),
    "gate": (790, 250, 130, "Gate", "compares"),
}
"""Left and upper edge, width, name and what stands below it."""

ARROWS = (
    ((200, 75), (298, 75), "", (0, 0)),
    ((300, 101), (202, 101), "", (0, 0)),
    ((490, 75), (688, 75), "opens a task: /predict", (589, 66)),
    ((690, 101), (492, 101), "a draft for the text box", (589, 120)),
    ((395, 126), (395, 248), "webhook", (429, 192)),
    ((490, 288), (568, 288), "snapshot", (529, 279)),
    ((720, 288), (788, 288), "candidate", (754, 279)),
    ((855, 250), (855, 128), "promoted", (892, 192)),
)
"""From, to, what it says, and where that stands."""


def box(left: int, top: int, width: int, name: str, below: str) -> str:
    middle = left + width / 2
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{BOX}" rx="10" fill="#eef0fa" stroke="{LINE}"/>'
        f'<text x="{middle}" y="{top + 33}" font-size="18" font-weight="600" fill="{INK}">{escape(name)}</text>'
        f'<text x="{middle}" y="{top + 56}" font-size="13" fill="{FAINT}">{escape(below)}</text>'
    )


def arrow(start: tuple[int, int], end: tuple[int, int], text: str, at: tuple[int, int]) -> str:
    line = f'<path d="M{start[0]} {start[1]} L{end[0]} {end[1]}" stroke="{LINE}" fill="none" marker-end="url(#tip)"/>'
    label = f'<text x="{at[0]}" y="{at[1]}" font-size="13" fill="{INK}">{escape(text)}</text>' if text else ""
    return line + label


def svg() -> str:
    back = f'<path d="M855 326 V362 H395 V328" stroke="{LINE}" fill="none" marker-end="url(#tip)"/>'
    back += f'<text x="625" y="354" font-size="13" fill="{INK}">held: learned again · rejected: quarantined</text>'
    parts = [*(box(*each) for each in BOXES.values()), *(arrow(*each) for each in ARROWS), back]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" text-anchor="middle" '
        f'font-family="system-ui, sans-serif" stroke-width="1.5"><title>{escape(ABOUT)}</title>'
        f'<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{LINE}"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="{PAPER}"/>' + "\n".join(parts) + "</svg>\n"
    ).replace("<text ", '<text stroke="none" ')


if __name__ == "__main__":
    OUT.write_text(svg(), encoding="utf-8")
