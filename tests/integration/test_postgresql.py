"""The store's own tests once more, on PostgreSQL: only the fixtures differ."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from backend.cli.main import main
from backend.store.database import MOST, Database, now
from backend.store.keeping.forgetting import compact, erase
from backend.store.keeping.traces import of_annotator
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from backend.store.tables import draft_chunks, retrains
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
def store(postgresql_url: str, tmp_path: Path) -> Store:
    store = Store(postgresql_url, tmp_path)
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


@pytest.mark.parametrize("hours", [1, -1])
def test_the_clock_of_a_machine_decides_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Two machines share the database; the clock of the second is wrong."""
    store.record(saved(*(correction(number) for number in range(1, 4))))

    def shifted(machine: int) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("backend.") and getattr(module, "now", None) in clocks:
                monkeypatch.setattr(module, "now", clocks[machine])

    clocks = (now, lambda: now() + timedelta(hours=hours))
    for owner, other in ((0, 1), (1, 0)):
        shifted(owner)
        retrain = store.request_retrain(1, asked=True, every=100)
        assert retrain is not None
        claimed = store.claim_retrain(retrain.id)
        assert claimed is not None
        refresh = store.claim_refresh(1)
        assert refresh is not None
        chunk = store.add_chunk(refresh, None, 10 * (owner + 1), 10, 10)
        assert chunk is not None
        shifted(other)
        assert store.stale_retrains() == []
        assert store.claim_retrain(retrain.id) is None
        assert store.claim_refresh(1) is None
        assert store.claim_chunk(1) is None
        assert store.renew_retrain(claimed, {}), "it is its owner's still"
        assert store.postpone_retrain(claimed, "the image host is away")
        assert store.queued_retrains() == [], "it is not due yet"
        assert store.cancel_retrain(1) is not None
        store.save_refresh(1, refresh.lease, heartbeat_at=None)
        assert store.leave_chunk(chunk, {}, done=True)
        store.record(saved(correction(10 + owner)))


def test_who_claims_waits_for_nobody_who_claims(store: Store) -> None:
    for number in range(1, 5):
        assert store.add_chunk(store.refresh_state(1), None, 10 * number, 10, 10) is not None
    store.order_refresh(1)  # frees them
    store.record(saved(correction(1)))
    retrain = store.request_retrain(1, asked=True, every=1)
    assert retrain is not None
    ids = [each.id for each in store.chunks(1)]
    with store.claiming() as connection:
        for table, row in ((draft_chunks, ids[0]), (retrains, retrain.id)):
            connection.execute(sa.select(table).where(table.c.id == row).with_for_update())
        first = store.claim_chunk(1)
        assert first is not None
        assert first.id == ids[1]
        assert store.claim_retrain(retrain.id) is None
    with ThreadPoolExecutor(4) as pool:
        found = [chunk.id for chunk in pool.map(lambda _: store.claim_chunk(1), range(4)) if chunk]
        attempts = [each for each in pool.map(lambda _: store.claim_retrain(retrain.id), range(4)) if each]
    assert sorted(found) == [ids[0], *ids[2:]]
    assert len(attempts) == 1
    store.stop_refresh(1)
    assert store.claim_chunk(1) is None


def test_more_threads_than_connections_take_turns(store: Store) -> None:
    with ThreadPoolExecutor(2 * MOST) as pool:
        assert list(pool.map(lambda _: store.refresh_state(1).project_id, range(4 * MOST))) == [1] * 4 * MOST
    with store.reading() as connection:
        count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert connection.scalar(count) <= MOST
