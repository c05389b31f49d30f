from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from backend.domain.errors import DatabaseError
from backend.store.database import Database
from backend.store.tables import metadata


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
