"""Every promise of docs/reliability.md is held by tests that are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
NO_PROMISE = "Not promised"


def rows(page: str) -> Iterator[str]:
    """The rows of the page's tables, without their heads."""
    lines = page.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|") and before.startswith("|") and not line.startswith("| ---"):
            yield line


def missing(page: str, root: Path = ROOT) -> list[str]:
    """The tests that the page names and that are not there."""
    found: dict[str, set[str]] = {}
    for path in {path for path, _ in TEST.findall(page)}:
        tree = ast.parse((root / path).read_text(encoding="utf-8")) if (root / path).is_file() else ast.Module([], [])
        found[path] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return [f"{path}::{name}" for path, name in TEST.findall(page) if name not in found[path]]


def test_each_test_that_holds_a_promise_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert missing(page) == []
    assert page.count("::") == len(TEST.findall(page)), "each is named as `tests/….py::test_…`"


def test_each_row_names_a_test_or_says_that_nothing_is_promised() -> None:
    found = list(rows(PAGE.read_text(encoding="utf-8")))
    assert len(found) > 30
    assert [row for row in found if not TEST.search(row) and NO_PROMISE not in row] == []


def test_a_test_that_has_gone_is_found(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text("def test_one() -> None:\n    pass\n")
    page = "| a | `tests/test_it.py::test_one` `tests/test_it.py::test_two` |\n| b | `tests/test_no.py::test_one` |"
    assert missing(page, tmp_path) == ["tests/test_it.py::test_two", "tests/test_no.py::test_one"]
