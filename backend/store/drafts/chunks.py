"""Chunks of the list of tasks to draft: each is drafted by one job at a time, any number of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from backend.store.database import clock, now
from backend.store.drafts.refreshes import Refreshes, RefreshState, stored, sums
from backend.store.lease import LEASE_SECONDS, has_expired
from backend.store.tables import draft_chunks


@dataclass(frozen=True)
class Chunk:
    """The unlabelled tasks with an id after `after_task` up to `last_task`, of which there were so many when they were
    listed; with `of_version` only those with a draft by it.

    `claim` counts the jobs that had it, and only the newest may write; `heartbeat_at` is when the job renewed its
    lease, None where a job has left it, and `read_at` when this was read, both by the database's clock.
    """

    id: int
    project_id: int
    of_version: str | None
    after_task: int
    last_task: int
    tasks: int
    claim: int
    heartbeat_at: datetime | None
    read_at: datetime = field(default_factory=now, compare=False)

    @property
    def is_claimed(self) -> bool:
        """Whether a job has a lease on it that has not expired."""
        return self.heartbeat_at is not None and not has_expired(self.heartbeat_at, self.read_at)


class Chunks(Refreshes):
    """The part of the store that shares the drafting of a project out to jobs."""

    def chunks(self, project_id: int) -> list[Chunk]:
        """Those that are not done, in the order of the list."""
        with self.reading() as connection:
            return self._chunks(connection, project_id)

    def claim_chunk(self, project_id: int) -> Chunk | None:
        """Give this job the first chunk that no other has; None where there is none, or a person has said stop."""
        if all(chunk.is_claimed for chunk in self.chunks(project_id)):
            return None  # without a lock
        with self.claiming() as connection:
            at = clock(connection)
            lease, beat = timedelta(seconds=LEASE_SECONDS), draft_chunks.c.heartbeat_at
            expired = (beat <= at - lease) | (beat >= at + lease)
            free = draft_chunks.c.project_id == project_id, beat.is_(None) | expired
            query = sa.select(draft_chunks).where(*free).order_by(draft_chunks.c.id).limit(1)
            row = connection.execute(query.with_for_update(skip_locked=True)).first()
            if row is None or self._state(connection, project_id).stopped:  # asked once the row is locked
                return None
            chunk = Chunk(**row._mapping, read_at=at)
            return self._write(connection, replace(chunk, claim=chunk.claim + 1, heartbeat_at=at))

    def add_chunk(
        self, seen: RefreshState, of_version: str | None, last_task: int, tasks: int, left: int
    ) -> Chunk | None:
        """Cut a chunk from the list where this state says it has been cut to, and give it to this job; None where
        another job was faster, or a person has said something else. `left` tasks were listed, this chunk included."""
        with self.writing(seen.project_id, durable=False) as connection:
            state = self._state(connection, seen.project_id)
            if not _is_same(state, seen):
                return None
            after = seen.checked_to if of_version is None else seen.after_task if of_version == seen.of_version else 0
            place = {"of_version": of_version, "after_task": last_task} if of_version else {"checked_to": last_task}
            before = state.checked + sum(chunk.tasks for chunk in self._chunks(connection, state.project_id))
            self._put(connection, state, {**place, "total": before + left})
            values: dict[str, Any] = {
                "project_id": state.project_id,
                "of_version": of_version,
                "after_task": after,
                "tasks": tasks,
            }
            values |= {"last_task": last_task, "claim": 1, "heartbeat_at": clock(connection)}
            made = connection.execute(draft_chunks.insert().values(**values)).inserted_primary_key
            assert made
            return Chunk(made[0], **values)

    def end_list(self, seen: RefreshState, **changes: Any) -> None:
        """Change where the list has been cut to, at the end of it or of one version's, unless it was changed before."""
        with self.writing(seen.project_id, durable=False) as connection:
            state = self._state(connection, seen.project_id)
            if _is_same(state, seen):
                self._put(connection, state, changes)

    def advance_chunk(self, chunk: Chunk, after_task: int, counts: Mapping[str, float]) -> Chunk | None:
        """Store that its tasks up to that one are done, and add to the project's counts; None, and nothing is written,
        where the chunk is this job's no more."""
        with self.writing(chunk.project_id, durable=False) as connection:
            if not self._is_mine(connection, chunk):
                return None
            state = self._state(connection, chunk.project_id)
            self._put(connection, state, {**sums(state, counts), "failure": None})
            left = max(0, chunk.tasks - int(counts.get("checked", 0)))
            return self._write(
                connection, replace(chunk, after_task=after_task, tasks=left, heartbeat_at=clock(connection))
            )

    def leave_chunk(self, chunk: Chunk, spent: Mapping[str, float], done: bool) -> bool:
        """Give the chunk back, which is no more where it is done; False where it is this job's no more."""
        with self.writing(chunk.project_id, durable=False) as connection:
            if not self._is_mine(connection, chunk):
                return False
            state = self._state(connection, chunk.project_id)
            gone = chunk.tasks if done else 0  # somebody has labelled them
            self._put(connection, state, sums(state, {**spent, "total": -gone}))
            if done:
                connection.execute(draft_chunks.delete().where(draft_chunks.c.id == chunk.id))
            else:
                self._write(connection, replace(chunk, heartbeat_at=None))
            return True

    def renew_chunk(self, chunk: Chunk) -> bool:
        """Renew the job's lease; False, and nothing is written, where the chunk is this job's no more."""
        with self.writing(chunk.project_id, durable=False) as connection:
            mine = self._is_mine(connection, chunk)
            if mine:
                renewed = {"heartbeat_at": clock(connection)}
                connection.execute(draft_chunks.update().where(draft_chunks.c.id == chunk.id).values(renewed))
            return mine

    def _chunks(self, connection: sa.Connection, project_id: int) -> list[Chunk]:
        query = sa.select(draft_chunks).where(draft_chunks.c.project_id == project_id).order_by(draft_chunks.c.id)
        at = clock(connection)
        return [Chunk(**row._mapping, read_at=at) for row in connection.execute(query)]

    def _is_mine(self, connection: sa.Connection, chunk: Chunk) -> bool:
        mine = draft_chunks.c.id == chunk.id, draft_chunks.c.claim == chunk.claim
        return connection.execute(sa.select(draft_chunks.c.id).where(*mine)).first() is not None

    def _write(self, connection: sa.Connection, chunk: Chunk) -> Chunk:
        connection.execute(draft_chunks.update().where(draft_chunks.c.id == chunk.id).values(stored(chunk)))
        return chunk


def _is_same(state: RefreshState, seen: RefreshState) -> bool:
    """Whether the list has been cut to the same place, and no person has said anything meanwhile."""

    def place(each: RefreshState) -> tuple[Any, ...]:
        return each.version, each.stopped, each.listed, each.of_version, each.after_task, each.checked_to

    return place(state) == place(seen)
