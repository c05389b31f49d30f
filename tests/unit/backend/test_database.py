from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from backend.database import Database
from backend.tables import metadata


def differences(database: Database) -> list[object]:
    with database.reading() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, {"compare_type": True}), metadata))


def test_the_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new/folder/captioner.db")
    assert differences(database)
    database.migrate()
    assert differences(database) == []


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


def test_sqlite_survives_a_power_cut(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    with database.reading() as connection:
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(sa.text("PRAGMA synchronous")) == 2  # FULL


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/captioner.db")
    database.migrate()
    with database.writing(1), database.reading() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM projects")) == 0
