from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from backend.store import totals
from backend.store.store import Store
from tests.factories import correction, saved


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'captioner.db'}")
    store.migrate()
    return store


def test_no_figure_needs_longer_the_more_corrections_there_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "MOST_WAITING", 3)
    store.record(saved(*(correction(number) for number in range(1, 9))))
    asked: list[tuple[str, Any]] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    (found,) = store.totals()
    assert (found.project_id, found.waiting) == (1, 3)
    assert found.behind_since is not None
    plans = []
    with store.engine.connect() as connection:
        for statement, parameters in [each for each in asked if each[0].startswith("SELECT")]:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [str(row[-1]) for row in plan]
    assert any(plan.startswith("SEARCH corrections USING INDEX") for plan in plans), plans
    assert any(plan.startswith("SEARCH correction_revisions USING INDEX") for plan in plans), plans
    assert [plan for plan in plans if plan.startswith(("SCAN correction", "SCAN draft", "SCAN event"))] == []
