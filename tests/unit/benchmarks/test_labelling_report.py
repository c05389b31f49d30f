from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from benchmarks.labelling_report import main
from tests.pages import texts_of
from tests.unit.backend.reports.test_economics import Project, mean, ratio, tables, wilson, words_of
from training.decoding.signals import Signals
from training.metrics.words import word_edits

WORDS = "a the man woman dog red blue shirt runs jumps over in on water snow grass two".split()  # noqa: SIM905


def curve(strategy: str, labels: int = 120) -> dict[str, object]:
    chance = random.Random(1)
    made = []
    for number in range(labels):
        caption = " ".join(chance.choices(WORDS, k=8)).capitalize() + " ."
        draft = caption if chance.random() < 0.2 else " ".join(chance.choices(WORDS, k=7))
        signals = [round(chance.gauss(0, 1), 5) for _ in Signals._fields]
        made.append(
            {
                "image": f"{number:064d}",
                "control": not number % 10,
                "draft": draft,
                "correction": caption,
                "signals": [*signals, None],
            }
        )
    return {"strategy": strategy, "labels": made, "points": [{"labels": each} for each in (0, 40, labels)]}


def line(name: str, rows: list[dict[str, Any]]) -> list[str]:
    """A line of the table, up to the times, which nobody measured."""
    few = [sum(row["unchanged"] for row in rows), sum(row["edits"] <= 1 for row in rows)]
    means = [mean([row[part] for row in rows]) for part in ("edits", "inserted", "deleted", "replaced")]
    words = [len(words_of(row["caption"])) for row in rows]
    shares = [wilson(each, len(rows)) for each in few]
    return [name, str(len(rows)), *shares, *means, ratio([row["edits"] for row in rows], words)]


def test_the_page_of_a_curve_says_what_was_labelled(tmp_path: Path) -> None:
    kept = curve("combined")
    (tmp_path / "curve.json").write_text(json.dumps(kept))
    done = CliRunner().invoke(main, [str(tmp_path / "curve.json"), str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "data" / "report.html").read_text()
    expected = Project(tmp_path / "data")
    rows = [line(name, expected.of(name)) for name in ("p1-v0", "p1-v1")]
    rows.append(line("all drafts", expected.drafted))
    assert [row[: len(rows[0])] for row in tables(page)[1:4]] == rows
    assert "120 corrections: 120 of drafts." in texts_of(page)
    first = [word_edits(each["draft"], each["correction"]) for each in kept["labels"][:40]]  # type: ignore[index]
    assert rows[0][4].startswith(f"{sum(first) / 40:.2f} "), "of the curve itself"
    selected = {row[0]: row[1] for row in tables(page) if row and "selected" in row[0]}
    assert selected == {"selected by a strategy": "108", "selected at random": "12"}


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "curve.json").write_text(json.dumps(curve("random")))
    (tmp_path / "data").mkdir()
    done = CliRunner().invoke(main, [str(tmp_path / "curve.json"), str(tmp_path / "data")])
    assert "exists already" in done.output
    assert not [*(tmp_path / "data").iterdir()]
