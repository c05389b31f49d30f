"""Removes traces from the database, down to its file. What stays is numbers, which keep them from coming in again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backend.domain.errors import CaptionerError, DatabaseError
from backend.store.database import Database, chunks, now
from backend.store.drafts.changes import count_changes
from backend.store.keeping.traces import Traces
from backend.store.recording import NOTHING
from backend.store.retrains import QUEUED, RUNNING
from backend.store.tables import (
    correction_revisions,
    corrections,
    draft_failures,
    drafts,
    events,
    features,
    model_versions,
    places,
    reconciliations,
    retrains,
    selected_tasks,
    selections,
    tasks,
)

FORGOTTEN = "FORGOTTEN"
"""Action of the event that has every process forget what it holds in memory."""
TRUNCATE_SECONDS = 30.0
"""How long SQLite's journal may stay in use by others."""
AT_ONCE = 200
"""Events that are read together; a body may have 25 MB."""


@dataclass(frozen=True)
class Erased:
    """How much of a project was erased: annotations, all their revisions, drafts, and webhooks as received."""

    annotations: int
    revisions: int
    drafts: int
    webhooks: int


def check_no_retrain(database: Database, project_id: int) -> None:
    """Raises CaptionerError while a retrain has the captions of the project frozen."""
    with database.reading() as connection:
        _check_no_retrain(connection, project_id)


def check_space(database: Database) -> None:
    """Raises CaptionerError where the disk has no space for compacting SQLite's file."""
    file = Path(database.url.database or "")
    if database.url.get_backend_name() != "sqlite" or not file.is_file():
        return
    needed, free = file.stat().st_size, shutil.disk_usage(file.parent).free
    if needed > free:
        raise CaptionerError(
            f"Compacting the database {file} needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free: free some "
            f"space first; nothing was erased."
        )


def erase(database: Database, found: Traces) -> Erased:
    """Erase the traces in one transaction. Raises CaptionerError while a retrain has them frozen."""
    with database.writing(found.project_id) as connection:
        _check_no_retrain(connection, found.project_id)
        return _Erasure(connection, found).erase()


def set_digest(database: Database, version: str, digest: str | None) -> None:
    """Store the digest of a version's checkpoint; None while it changes: then it is not checked."""
    with database.writing(0) as connection:
        update = model_versions.update().where(model_versions.c.name == version)
        connection.execute(update.values(digest=digest))


def digests(database: Database, versions: Collection[str]) -> dict[str, str]:
    """Of these versions the digests of their checkpoints, where they are known."""
    found: dict[str, str] = {}
    with database.reading() as connection:
        for some in chunks(sorted(versions)):
            query = sa.select(model_versions.c.name, model_versions.c.digest).where(model_versions.c.name.in_(some))
            found |= {row.name: row.digest for row in connection.execute(query) if row.digest}
    return found


def compact(database: Database) -> None:
    """Leave nothing of deleted rows in the files of the database, while others use it."""
    connection = database.engine.raw_connection()
    try:
        cursor = connection.cursor()
        if database.url.get_backend_name() != "sqlite":
            connection.driver_connection.autocommit = True  # type: ignore[union-attr]
            cursor.execute("VACUUM")
            connection.driver_connection.autocommit = False  # type: ignore[union-attr]
            return
        cursor.execute("VACUUM")
        end = time.monotonic() + TRUNCATE_SECONDS
        while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > end:
                raise DatabaseError(
                    "The rows are erased, but another process keeps SQLite's journal, which may still have them: run "
                    "the command again when it has ended."
                )
            time.sleep(0.05)
    except Exception as error:
        if isinstance(error, DatabaseError):
            raise
        raise DatabaseError(f"The rows are erased, but the database's file could not be compacted: {error}.") from error
    finally:
        connection.close()


class _Erasure:
    def __init__(self, connection: Connection, found: Traces) -> None:
        self._connection, self._found = connection, found

    def erase(self) -> Erased:
        webhooks = self._empty_bodies()
        body = {"annotations": len(self._found.annotations), "tasks": len(self._found.tasks)}
        values = {"project_id": self._found.project_id, "action": FORGOTTEN, "body": body, "received_at": now()}
        result = self._connection.execute(events.insert().values(**values))
        assert result.inserted_primary_key is not None
        revisions = self._bury_annotations(result.inserted_primary_key[0])
        gone = self._delete_drafts()
        self._clear_copies()
        self._clear_verdicts()
        if self._found.whole_image:
            self._delete_image()
        return Erased(len(self._found.annotations), revisions, gone, webhooks)

    def _bury_annotations(self, seq: int) -> int:
        """Replace each annotation by a row without a text and a person; how many revisions there were."""
        known: dict[int, dict[str, Any]] = {}
        for row in self._rows(corrections, corrections.c.annotation_id, self._found.annotations):
            known[row["annotation_id"]] = dict(row)
        rows = [
            {
                **NOTHING,
                "annotation_id": id_,
                "project_id": self._found.project_id,
                "task_id": known[id_]["task_id"] if id_ in known else None,  # drafts copied from it change
                "usable": False,
                "deleted": True,
                "deleted_with_task": False,
                "forgotten": True,
                "seq": seq,
                "recorded_at": now(),
            }
            for id_ in sorted(self._found.annotations)
        ]
        written = count_changes(self._connection, rows, known)
        self._delete(corrections, corrections.c.annotation_id, self._found.annotations)
        revisions = self._delete(correction_revisions, correction_revisions.c.annotation_id, self._found.annotations)
        if written:
            self._connection.execute(corrections.insert(), written)
            self._connection.execute(correction_revisions.insert(), [{**row, "event_seq": seq} for row in written])
        return revisions

    def _delete_drafts(self) -> int:
        """Delete drafts of these tasks that say what was written; of an image all of them."""
        if self._found.whole_image:
            return sum(
                self._delete(drafts, column, values)
                for column, values in (
                    (drafts.c.task_id, self._found.tasks),
                    (drafts.c.image_sha256, self._found.images),
                )
            )
        gone = 0
        for column in (drafts.c.text, drafts.c.withheld):
            for some in chunks(sorted(self._found.texts)):
                gone += self._delete(drafts, drafts.c.task_id, self._found.tasks, column.in_(some))
        return gone

    def _clear_copies(self) -> None:
        """Empty drafts of other tasks that were copied from these, and what began as one; the next comparison of
        waiting drafts finds them by their source and shows others."""
        for some in chunks(sorted(self._found.tasks)):
            copied = drafts.c.project_id == self._found.project_id, drafts.c.from_task.in_(some)
            self._connection.execute(drafts.update().where(*copied).values(text=""))
        for table in (corrections, correction_revisions):
            for texts in chunks(sorted(self._found.texts)):
                began = table.c.project_id == self._found.project_id, table.c.draft_version.is_(None)
                update = table.update().where(*began, table.c.draft_text.in_(texts))
                self._connection.execute(update.values(draft_text=None))

    def _clear_verdicts(self) -> None:
        """Remove the pairs that verdicts quote: those with a caption of theirs, or of the image."""
        query = sa.select(model_versions.c.name, model_versions.c.verdict)
        mine = model_versions.c.project_id == self._found.project_id, model_versions.c.verdict.is_not(None)
        for name, verdict in self._connection.execute(query.where(*mine)).all():
            sets = [
                {**each, "worst": [one for one in each.get("worst", ()) if not self._is_quoted(one)]}
                for each in verdict.get("sets", ())
            ]
            if sets and sets != verdict["sets"]:
                changed = {**verdict, "sets": sets}
                update = model_versions.update().where(model_versions.c.name == name)
                self._connection.execute(update.values(verdict=changed))

    def _is_quoted(self, example: dict[str, Any]) -> bool:
        said = set(example.get("references", ())) & self._found.texts
        return bool(said) or any(sha256 in str(example.get("image")) for sha256 in self._found.images)

    def _empty_bodies(self) -> int:
        """Empty the bodies of webhooks that name any of it; how many."""
        emptied, last = 0, 0
        while True:
            mine = events.c.project_id == self._found.project_id, events.c.seq > last
            query = sa.select(events.c.seq, events.c.body).where(*mine).order_by(events.c.seq).limit(AT_ONCE)
            rows = self._connection.execute(query).all()
            if not rows:
                return emptied
            named = [row.seq for row in rows if self._found.is_named_in(row.body)]
            for numbers in chunks(named):
                self._connection.execute(events.update().where(events.c.seq.in_(numbers)).values(body={}))
            emptied, last = emptied + len(named), rows[-1].seq

    def _delete_image(self) -> None:
        """Delete what is known of the image, and bury its tasks."""
        project_id, ids = self._found.project_id, self._found.tasks
        for table in (features, places):
            self._delete(table, table.c.image_sha256, self._found.images)
        self._delete(draft_failures, draft_failures.c.task_id, ids)
        of_project = sa.select(selections.c.id).where(selections.c.project_id == project_id)
        for some in chunks(sorted(ids)):
            mine = selected_tasks.c.selection_id.in_(of_project), selected_tasks.c.task_id.in_(some)
            self._connection.execute(selected_tasks.delete().where(*mine))
        state = sa.select(reconciliations.c.unreadable).where(reconciliations.c.project_id == project_id)
        if unreadable := self._connection.scalar(state):
            left = [each for each in unreadable if each not in ids]
            update = reconciliations.update().where(reconciliations.c.project_id == project_id)
            self._connection.execute(update.values(unreadable=left))
        self._delete(tasks, tasks.c.id, ids)
        buried = {"project_id": project_id, "deleted": True, "forgotten": True, "recorded_at": now()}
        if ids:
            self._connection.execute(tasks.insert(), [{**buried, "id": each} for each in sorted(ids)])

    def _rows(self, table: sa.Table, column: sa.Column[Any], values: Collection[Any]) -> Iterator[Any]:
        for some in chunks(sorted(values)):
            mine = table.c.project_id == self._found.project_id, column.in_(some)
            yield from self._connection.execute(sa.select(table).where(*mine)).mappings()

    def _delete(
        self, table: sa.Table, column: sa.Column[Any], values: Collection[Any], *where: sa.ColumnElement[bool]
    ) -> int:
        mine = table.c.project_id == self._found.project_id
        return sum(
            self._connection.execute(table.delete().where(mine, column.in_(some), *where)).rowcount
            for some in chunks(sorted(values))
        )


def _check_no_retrain(connection: Connection, project_id: int) -> None:
    active = retrains.c.state.in_((QUEUED, RUNNING)), retrains.c.frozen
    query = sa.select(retrains.c.snapshot).where(retrains.c.project_id == project_id, *active)
    if snapshot := connection.scalar(query):
        raise CaptionerError(
            f"The retrain {snapshot} of project {project_id} is learning from its captions now: wait until it has "
            f"ended, or run `captioner train-cancel --project {project_id}`; then run this again."
        )
