"""Examples of docs/ that are more than a command: they are run, and do what the page says."""

from __future__ import annotations

import contextlib
import io
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import correction, saved, settings

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


def test_a_backup_holds_what_was_committed_and_is_restored_under_another_path(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store = Store(settings(data).database_url)
    store.migrate()
    store.record(saved(correction(1, "a red dot")))
    for name in ("models/p1-v1", "snapshots/1-1", "images/aa"):
        (data / name).mkdir(parents=True)
        (data / name / "file").write_text(name)
    Registry(store).register(ModelVersion("p1-v1", data / "models" / "p1-v1", project_id=1))
    Registry(store).promote(1, "p1-v1", reason="for a test", by="test")
    [(_, commands)] = blocks("operating.md", "Backup")
    script = commands.replace(".venv/bin/python", sys.executable)
    with sqlite3.connect(data / "captioner.db", isolation_level=None) as writer:  # while somebody writes
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE projects SET hostname = 'half done'")
        subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, check=True, timeout=60)
    store.close()

    data.rename(tmp_path / "lost")
    elsewhere = (tmp_path / "backup").rename(tmp_path / "elsewhere")
    restored = Store(settings(elsewhere).database_url)
    assert [each.texts for each in restored.corrections(1)] == [("a red dot",)]
    champion = Registry(restored).champion(1)
    assert champion
    assert (champion.checkpoint / "file").read_text() == "models/p1-v1"
    assert restored.projects()[0].hostname is None
