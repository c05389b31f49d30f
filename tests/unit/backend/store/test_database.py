from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import alembic.command
import alembic.config
import alembic.script
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from backend.domain.errors import DatabaseError
from backend.domain.splits import split_of
from backend.store import database as module
from backend.store.database import Database, now
from backend.store.tables import corrections, drafts, metadata, places, refreshes, retrains
from training.data.manifest import BLIND

ZEROS = ("stopped", "after_task", "total", "stored", "failed", "deleted", "requests", "seconds")


def differences(database: Database) -> list[object]:
    with database.reading() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, {"compare_type": True}), metadata))


def test_a_new_database_has_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new/folder/captioner.db")
    assert differences(database)
    database.migrate()
    assert differences(database) == []


def test_a_database_of_an_earlier_release_keeps_its_rows_under_the_new_names(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    with database.writing(1) as connection:
        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "0003")
        zeros = dict.fromkeys(
            ("stopped", "after_task", "total", "stored", "failed", "deleted", "requests", "seconds"), 0
        )
        old = {"project_id": 1, "state": "waiting", "looked": 4, "looked_to": 7, "in_hand": 2, "part": 3, **zeros}
        connection.execute(sa.insert(sa.table("refreshes", *map(sa.column, old))).values(**old))
        progress = sa.table("retrains", sa.column("progress", sa.JSON))
        retrain = {
            "project_id": 1,
            "snapshot": "1-5",
            "cutoff_seq": 5,
            "frozen": True,
            "attempt": 1,
            "state": "running",
        }
        retrain |= {"state": "running", "deaths": 0, "postponed": 0, "requested_at": now(), "progress": {}}
        for phase in ("blend", "train"):
            connection.execute(retrains.insert().values(**{**retrain, "progress": {"phase": phase, "step": 2}}))
        draft = {"project_id": 1, "task_id": 5, "version": "v1", "image": "/5.jpg", "image_key": "k", "text": "a dot"}
        draft |= {"score": 0.5, "served_at": now()}
        connection.execute(sa.insert(sa.table("drafts", *map(sa.column, draft))).values(**draft))
        for task, (image, text) in enumerate(
            [("a", "a dot"), ("b", ""), ("c", ""), ("c", "a dot"), ("a", "")], start=6
        ):
            shown = {**draft, "task_id": task, "image_sha256": image * 64, "text": text}
            connection.execute(sa.insert(sa.table("drafts", *map(sa.column, shown))).values(**shown))
        made = dict.fromkeys(("was_cancelled", "ground_truth", "deleted", "deleted_with_task"), False)
        made |= {"project_id": 1, "seq": 1, "texts": [], "typed": [], "usable": True, "recorded_at": now()}
        for number, (image, text) in enumerate([("d", "a dot"), ("e", ""), ("f", None)]):
            row = {**made, "annotation_id": number, "image_sha256": image * 64, "draft_text": text}
            connection.execute(corrections.insert().values(**row))
    database.migrate()
    assert differences(database) == []
    with database.reading() as connection:
        row = connection.execute(sa.select(refreshes)).one()
        assert (row.checked, row.checked_to, row.being_edited, row.lease, row.heartbeat_at) == (4, 7, 2, 3, None)
        found = connection.scalars(sa.select(progress)).all()
        kept = connection.execute(sa.select(drafts.c.task_id, drafts.c.text, drafts.c.from_task)).all()
        placed = dict(connection.execute(sa.select(places.c.image_sha256, places.c.place)).all())
    assert found == [{"phase": "interpolate", "step": 2}, {"phase": "train", "step": 2}]
    assert kept[0] == (5, "a dot", None)
    shown = {image * 64: split_of(image * 64, 0.0) for image in "acd"}
    assert placed == {**shown, "b" * 64: BLIND, "e" * 64: BLIND}, "an image that has shown a draft is not blind"


REVISIONS = [
    script.revision
    for script in alembic.script.ScriptDirectory(str(Path(module.__file__).parent / "migrations")).walk_revisions()
]
VALUES = {int: 1, str: "7", bool: False, float: 0.5, bytes: b"7", datetime: datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_of_every_earlier_schema_migrates_with_its_rows(tmp_path: Path, revision: str) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    with database._transaction(database._writing_engine) as connection:
        config = module._alembic()
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, revision)  # migrations begin at the schema of 0.1.0, which none makes
        held = sa.MetaData()
        held.reflect(connection)
        of_then = [table for table in held.sorted_tables if table.name != "alembic_version"]
        for table in of_then:
            row = {
                column.name: VALUES.get(column.type.python_type, {}) for column in table.columns if not column.nullable
            }
            connection.execute(table.insert().values(row))
    assert database.schema() == ("newest" if revision == REVISIONS[0] else "older")
    database.migrate()
    assert database.schema() == "newest"
    assert differences(database) == []
    with database.reading() as connection:
        kept = {table.name: connection.scalar(sa.text(f"SELECT count(*) FROM {table.name}")) for table in of_then}
    assert set(kept.values()) == {1}, kept


def test_a_difference_of_schema_and_code_would_be_seen(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    with database.writing(1) as connection:
        connection.execute(sa.text("DROP INDEX ix_corrections_project_id_seq"))
    assert differences(database)


def test_migrating_twice_or_at_the_same_time_is_migrating_once(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path}/captioner.db") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Database.migrate, databases))
    databases[0].migrate()
    assert differences(databases[1]) == []


def test_a_new_database_waits_for_a_process_that_writes_to_it(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "captioner.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # as the process that makes the journal a WAL
    timer = threading.Timer(0.2, other.rollback)
    timer.start()
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    timer.join()
    other.close()
    assert differences(database) == []


def test_sqlite_survives_a_power_cut(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    levels = []
    for durable in (True, False, True):
        with database.writing(1, durable) as connection:
            assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
            levels.append(connection.scalar(sa.text("PRAGMA synchronous")))
    assert levels == [2, 1, 2], "FULL, and NORMAL for what can be made again"


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    with database.writing(1), database.reading() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM projects")) == 0


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("foo://x", "foo"),
        ("mysql+nosuchdriver://x", "nosuchdriver"),
        ("sqlite:////proc/nowhere/captioner.db", "cannot be opened"),
        ("postgresql+psycopg://ann:secret@127.0.0.1:1/captioner", "cannot be used: .*refused"),
    ],
)
def test_a_database_that_cannot_be_had_is_one_sentence(address: str, sentence: str) -> None:
    with pytest.raises(DatabaseError, match=sentence) as caught:
        Database(address).migrate()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "captioner.db").write_text("some notes " * 100)
    with pytest.raises(DatabaseError, match="file is not a database"):
        Database(f"sqlite:///{tmp_path}/captioner.db").migrate()


def test_a_database_of_a_newer_version_is_one_sentence(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    with database.writing(1) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="another schema"):
        database.migrate()


def test_a_mistake_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    with pytest.raises(sa.exc.IntegrityError), database.writing(1) as connection:
        connection.execute(sa.text("INSERT INTO projects SELECT * FROM projects"))
