"""One SQL database: its connections, its transactions, its schema."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import alembic.command
import alembic.config
import alembic.migration
import alembic.script
import alembic.util
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url

from backend.domain.errors import DatabaseError
from backend.store.tables import metadata, projects

KEPT, MOST = 5, 20
"""Connections to PostgreSQL that a process keeps, and has at most. A thread waits for one up to 30 s, and holds it for
milliseconds."""
_BUSY_SECONDS = 30
_CONNECT_SECONDS = 10
_SILENT = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
"""Options of libpq: within a minute a connection is given up whose server has vanished without a word."""
_MIGRATING = 5_870_293_114  # PostgreSQL's advisory lock of a migration: an arbitrary number, the same in all processes
_CHUNK = 500  # values in one IN list; SQLite's oldest limit is 999

# Errors that this program causes, not the database; they keep their traceback.
_OURS = (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError, sa.exc.NotSupportedError)

T = TypeVar("T")


class Database:
    """Connections to the database at a SQLAlchemy URL, opened when first used. Threads may share it.

    The files that it names are in `data_dir`, by default the folder of an SQLite database. A forked child must make a
    Database of its own. Every method raises DatabaseError, in one sentence, when the database itself fails.
    """

    def __init__(self, database_url: str, data_dir: Path | None = None) -> None:
        try:
            self.url = make_url(database_url)
            if self._is_sqlite:
                if self.url.database:
                    Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
                self.engine = sa.create_engine(
                    self.url,
                    connect_args={"timeout": _BUSY_SECONDS},
                    json_serializer=_serialise,
                    hide_parameters=True,  # errors are logged, and captions are none of the log's business
                )
                sa.event.listen(self.engine, "connect", _configure_sqlite)
                sa.event.listen(self.engine, "begin", _begin_sqlite)
            else:
                by_libpq = self.url.get_driver_name() in {"psycopg", "psycopg2"}
                limits = {"connect_timeout": _CONNECT_SECONDS, **_SILENT} if by_libpq else {}
                self.engine = sa.create_engine(
                    self.url,
                    connect_args={name: value for name, value in limits.items() if name not in self.url.query},
                    pool_pre_ping=True,
                    pool_size=KEPT,
                    max_overflow=MOST - KEPT,
                    json_serializer=_serialise,
                    hide_parameters=True,
                )
        except (sa.exc.ArgumentError, ImportError, OSError) as error:  # no address, no driver, no folder
            address = self.url.render_as_string() if hasattr(self, "url") else "named by DATABASE_URL"
            raise DatabaseError(f"The database {address} cannot be opened: {error}.") from error
        file = self.url.database if self._is_sqlite else None
        self.data_dir = data_dir or (Path(file).absolute().parent if file else None)
        self._writing_engine: Engine = self.engine.execution_options(writes=True)
        # SQLite waits for another writer in naps of up to 100 ms; a lock wakes the next thread at once.
        self._turn = threading.RLock() if self._is_sqlite else None

    def migrate(self) -> None:
        """Make the tables of a new database, or migrate those there are, in one transaction.

        Processes that start together wait for one another.
        """
        config = _alembic()
        with self._transaction(self._writing_engine) as connection:
            if self._is_postgresql:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
            config.attributes["connection"] = connection
            try:
                if sa.inspect(connection).has_table("alembic_version"):
                    alembic.command.upgrade(config, "head")
                else:
                    metadata.create_all(connection)
                    alembic.command.stamp(config, "head")
            except alembic.util.CommandError as error:  # made by a newer version of this program, or one before 0.1.0
                raise DatabaseError(f"The database {self._shown} has another schema: {error}.") from error

    def schema(self) -> Literal["newest", "older", "unknown", "missing"]:
        """Of which release the tables are; `unknown`: of a newer one, or one before 0.1.0. Changes nothing."""
        if self._is_sqlite and not Path(self.url.database or "").is_file():
            return "missing"  # connecting would make the file
        newest, *older = revisions()
        with self.reading() as connection:
            found = alembic.migration.MigrationContext.configure(connection).get_current_revision()
        if found is None or found == newest:
            return "missing" if found is None else "newest"
        return "older" if found in older else "unknown"

    def close(self) -> None:
        self.engine.dispose()

    def reading(self) -> contextlib.AbstractContextManager[Connection]:
        """A transaction that sees one state of the database throughout."""
        return self._transaction(self.engine)

    def copying(self, writes: bool = False) -> contextlib.AbstractContextManager[Connection]:
        """A transaction over all projects, for whole copies; one that reads sees one state of the database."""
        if writes or self._is_sqlite:
            return self._transaction(self._writing_engine if writes else self.engine)
        return self._transaction(self.engine.execution_options(isolation_level="REPEATABLE READ"))

    @contextlib.contextmanager
    def writing(self, project_id: int, durable: bool = True) -> Iterator[Connection]:
        """A transaction that may change rows of the project; it locks the project's own row until it ends.

        That row is added for a new project. On SQLite the transaction locks the whole database. One that is not
        `durable` does not wait for the disk; a power cut may lose it, unless a durable one has followed.
        """
        engine = self._writing_engine.execution_options(durable=durable)
        with self._in_turn(), self._transaction(engine) as connection:
            lock = sa.select(projects.c.id).where(projects.c.id == project_id).with_for_update()
            if connection.execute(lock).first() is None:
                new = projects.insert().values(id=project_id, training_asked=False, updated_at=now())
                try:
                    with connection.begin_nested():
                        connection.execute(new)
                except sa.exc.IntegrityError:  # another process made it in the meantime
                    connection.execute(lock)
            yield connection

    @contextlib.contextmanager
    def claiming(self) -> Iterator[Connection]:
        """A transaction in which work is claimed, without a lock of a project: the row of the work is selected with
        `FOR UPDATE SKIP LOCKED`, so that nobody waits for another who claims. On SQLite it locks the whole database."""
        with self._in_turn(), self._transaction(self._writing_engine) as connection:
            yield connection

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        """On SQLite one thread of this process writes at a time. None waits for the waiting of all before it."""
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=_BUSY_SECONDS):
            raise DatabaseError(f"The database {self._shown} cannot be used: others write to it for too long.")
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except (sa.exc.DatabaseError, sa.exc.InterfaceError) as error:
            if isinstance(error, _OURS):
                raise
            reason = str(error.orig).strip().splitlines()[0]
            raise DatabaseError(f"The database {self._shown} cannot be used: {reason}.") from error
        except sa.exc.TimeoutError as error:
            raise DatabaseError(f"The database {self._shown} cannot be used: no connection became free.") from error

    @property
    def _shown(self) -> str:
        return self.url.render_as_string()

    @property
    def identity(self) -> str:
        """Tells this database from others, by whatever address a process reaches it; no secret."""
        if self._is_sqlite:
            file = Path(self.url.database or "")
            return f"file {file.stat().st_ino}" if file.is_file() else "memory"
        return self.url.set(username=None, password=None, query={}).render_as_string()

    @property
    def _is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def _is_postgresql(self) -> bool:
        return self.url.get_backend_name() == "postgresql"


def now() -> datetime:
    return datetime.now(UTC)


def clock(connection: Connection) -> datetime:
    """The time by the database's clock: what several machines decide by, whatever their own clocks say.

    SQLite runs in this process, so its clock is this machine's.
    """
    if connection.dialect.name == "sqlite":
        return now()
    at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return at.astimezone(UTC)


def chunks(values: Sequence[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """The values in pieces of `size`, by default one that fits an IN list."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def revisions() -> list[str]:
    """The schemas that this release knows, the newest first."""
    scripts = alembic.script.ScriptDirectory.from_config(_alembic())
    return [script.revision for script in scripts.walk_revisions()]


def _alembic() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _serialise(value: Any) -> str:
    """As `json.dumps`, in pieces, between which other threads get their turn: the body of an event may have 25 MB."""
    return "".join(_ENCODER.iterencode(value))


_ENCODER = json.JSONEncoder()


def _configure_sqlite(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    dbapi_connection.isolation_level = None  # or sqlite3 begins transactions by itself
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    _await_wal(cursor)
    cursor.close()


def _await_wal(cursor: sqlite3.Cursor) -> None:
    """Set the journal to WAL, which SQLite refuses at once, whatever the timeout, while another connection writes.

    It reads first and locks then, and one that reads already might wait for ever (`sqlite3BtreeBeginTrans`).
    """
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that began with a read fails when it must wait to write, so writers lock at the start.
    options = connection.get_execution_options()
    if not options.get("writes", False):
        connection.exec_driver_sql("BEGIN")
        return
    # An acknowledged event must survive a power cut. Other writes do not wait for the disk, because they lock the whole
    # database meanwhile, and a webhook would wait for them.
    connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if options.get('durable', True) else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
