"""Copies of a whole database: always one SQLite file, which goes back into SQLite or PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backend.domain.errors import DatabaseError
from backend.store.database import Database, revisions
from backend.store.keeping.paths import FILES, located, named
from backend.store.tables import metadata

ROWS = 1000
"""Rows that are held in memory at once."""


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy an SQLite database as it is at one moment, while others write to it. Raises DatabaseError."""
    try:
        with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
            here.backup(there)  # in one step, so that no writer makes it begin again
            there.execute("PRAGMA journal_mode = DELETE")  # one file, complete in itself
    except sqlite3.Error as error:
        raise DatabaseError(f"The database {source} cannot be copied: {error}.") from error


def copy_out(database: Database, target: Path) -> str:
    """Write all that the database holds at one moment to a new SQLite file; returns the revision of its schema.

    Files within the data folder are named relative to it, whatever release wrote their names.
    """
    if database.url.get_backend_name() == "sqlite":
        copy_sqlite(Path(database.url.database or ""), target)
    else:
        copy = Database(f"sqlite:///{target}")
        copy.migrate()
        with database.copying() as connection, copy.copying(writes=True) as there:
            _copy_rows(connection, there)
        copy.close()
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        _name_files(connection, database.data_dir)
        revision = str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
        connection.commit()
    return revision


def copy_in(source: Path, database: Database) -> None:
    """Write all that the SQLite file holds to a database without tables. The file is migrated first."""
    copy = Database(f"sqlite:///{source}")
    copy.migrate()
    database.migrate()
    with copy.reading() as connection, database.copying(writes=True) as there:
        _copy_rows(connection, there)
        if database.url.get_backend_name() == "postgresql":
            _go_on_counting(there)
    copy.close()


def check_known(revision: str) -> None:
    """Raises DatabaseError where this release does not know the schema of that revision."""
    if revision not in revisions():
        raise DatabaseError(
            f"The backup's database has the schema {revision}, which this release does not know: restore it with the "
            f"release that wrote it, or a newer one."
        )


def _copy_rows(source: Connection, target: Connection) -> None:
    for table in metadata.sorted_tables:
        rows = source.execution_options(yield_per=ROWS).execute(sa.select(table))
        for some in rows.mappings().partitions(ROWS):
            target.execute(table.insert(), [dict(row) for row in some])


def _go_on_counting(connection: Connection) -> None:
    """Let numbers that PostgreSQL gives begin after those that were written."""
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            highest = connection.scalar(sa.select(sa.func.max(column)))
            sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
            connection.execute(sa.select(sa.func.setval(sequence, highest or 1, highest is not None)))


def _name_files(connection: sqlite3.Connection, data_dir: Path | None) -> None:
    columns = ", ".join(FILES)
    for name, *files in connection.execute(f"SELECT name, {columns} FROM model_versions").fetchall():  # noqa: S608 - our names
        known = [named(located(file, data_dir), data_dir) for file in files]
        values = ", ".join(f"{each} = ?" for each in FILES)
        connection.execute(f"UPDATE model_versions SET {values} WHERE name = ?", [*known, name])  # noqa: S608
