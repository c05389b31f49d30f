"""Examples of docs/ that are more than a command: they are run, and do what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, heading: str) -> list[tuple[str, str]]:
    """The language and the text of each block of code below the heading."""
    section = (DOCS / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, heading
    return re.findall(r"^```(\w*)\n(.*?)^```$", section, re.S | re.M)


def test_the_worked_example_of_the_gate_computes_what_the_page_says() -> None:
    (_, code), (_, printed) = blocks("gate.md", "An example to compute")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "gate.md", "exec"), {})
    assert output.getvalue() == printed
