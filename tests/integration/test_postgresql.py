"""The store's own tests once more, on PostgreSQL: only the fixtures differ."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from backend.cli.main import main
from backend.store.database import Database
from backend.store.keeping.forgetting import compact, erase
from backend.store.keeping.traces import of_annotator
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import correction, saved
from tests.unit.backend.store.test_calibrations import *  # noqa: F403
from tests.unit.backend.store.test_changes import *  # noqa: F403
from tests.unit.backend.store.test_database import differences
from tests.unit.backend.store.test_outcomes import *  # noqa: F403
from tests.unit.backend.store.test_registry import *  # noqa: F403
from tests.unit.backend.store.test_retrains import *  # noqa: F403
from tests.unit.backend.store.test_selections import *  # noqa: F403
from tests.unit.backend.store.test_store import *  # noqa: F403


@pytest.fixture
def store(postgresql_url: str) -> Store:
    store = Store(postgresql_url)
    store.migrate()
    return store


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


def test_a_new_database_has_the_tables_that_the_code_knows(postgresql_url: str) -> None:
    databases = [Database(postgresql_url) for _ in range(4)]
    assert databases[0].schema() == "missing"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Database.migrate, databases))
    assert differences(databases[0]) == []
    assert databases[0].schema() == "newest"


def test_the_figures_of_projects_are_read(store: Store, registry: Registry) -> None:
    store.record(saved(correction(1), correction(2)))
    registry.register(ModelVersion("p1-v1", Path("p1-v1"), project_id=1, verdict={"decision": "held"}))
    registry.register(ModelVersion("p1-v2", Path("p1-v2"), project_id=1))
    (found,) = store.totals()
    assert (found.project_id, found.waiting, dict(found.verdicts)) == (1, 2, {"held": 1, "none": 1})


def test_a_persons_captions_are_forgotten(store: Store) -> None:
    store.record(saved(correction(1, annotator=7), correction(2, annotator=8), body={"completed_by": 7}))
    [found] = of_annotator(store, 7)
    assert erase(store, found).webhooks == 1
    compact(store)
    store.record(saved(correction(1, "again", second=1, annotator=7)))
    assert [each.annotation_id for each in store.corrections(1)] == [2]


def test_a_backup_moves_from_sqlite_to_postgresql_and_back(postgresql_url: str, tmp_path: Path) -> None:
    def run(*arguments: object) -> None:
        result = CliRunner().invoke(main, list(map(str, arguments)))
        assert result.exit_code == 0, result.output

    here = Store(f"sqlite:///{tmp_path}/here/captioner.db")
    here.migrate()
    here.record(saved(correction(1, "ein roter Fleck — “rot”"), correction(2, "a blue dot")))
    Registry(here).register(ModelVersion("p1-v1", tmp_path / "here" / "models" / "p1-v1", 1, verdict={"a": None}))
    Registry(here).promote(1, "p1-v1", reason="better", by="gate")
    run("backup", tmp_path / "first", "--data-dir", tmp_path / "here")
    run("restore", tmp_path / "first", "--data-dir", tmp_path / "there", "--database-url", postgresql_url)
    there = Store(postgresql_url, tmp_path / "there")
    assert there.corrections(1) == here.corrections(1)
    champion = Registry(there).champion(1)
    assert champion is not None
    assert champion.checkpoint == tmp_path / "there" / "models" / "p1-v1"
    assert there.record(saved(correction(3))).seq == 2, "numbers go on after those that were restored"
    again = CliRunner().invoke(
        main, ["restore", str(tmp_path / "first"), "--data-dir", str(tmp_path / "x"), "--database-url", postgresql_url]
    )
    assert again.exit_code == 1
    assert "has tables already" in again.output
    run("backup", tmp_path / "second", "--data-dir", tmp_path / "there", "--database-url", postgresql_url)
    run("restore", tmp_path / "second", "--data-dir", tmp_path / "back")
    back = Store(f"sqlite:///{tmp_path}/back/captioner.db")
    assert back.corrections(1) == there.corrections(1)
    assert Registry(back).get("p1-v1").verdict == {"a": None}
    there.close()
