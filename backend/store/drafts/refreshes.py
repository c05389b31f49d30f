"""How far the drafts of a project's unlabelled tasks have been replaced by those of its champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from backend.store.database import Database, clock, now
from backend.store.lease import has_come, has_expired
from backend.store.tables import draft_chunks, drafts, refreshes, tasks

LIVE = "live"
"""Label Studio asks the backend for the drafts of each task it opens."""
STORED = "stored"
"""Label Studio shows, and orders by, what is stored under one version."""
EVERY = "every"
"""No mode: every unlabelled task is to get a stored draft, and the mode stays."""

DRAFTING, WAITING, TIDYING, DONE = "drafting", "waiting", "tidying", "done"

OPEN_SECONDS = 600.0
"""A task may be open in an editor for so long without anything typed before a superfluous draft is deleted."""
RETRY_SECONDS = 60.0
"""After a failure nothing is tried for so long."""


def drafts_every(mode: str | None, wanted: str | None) -> bool:
    """Whether every unlabelled task gets a draft, and not only those with one by another version."""
    return mode == STORED or wanted is not None


@dataclass(frozen=True)
class RefreshState:
    """How far the drafts of a project's unlabelled tasks are those of `version`.

    `mode` is what Label Studio said when last asked; `wanted` is what a person asked for and is not done: STORED, a
    mode to enter once all drafts are stored, or EVERY. Meanwhile `per_minute` is the most drafts a minute, None for as
    many as can be.
    Chunks of the list of tasks are drafted by any number of jobs. They have been cut up to the task `after_task` with
    a draft by `of_version`, or where every task gets one up to `checked_to`; `listed`: up to its end.
    `checked` of `total` tasks have been checked: `stored` of them got a draft, `failed` could not get one.
    `deleted` counts old predictions, `being_edited` tasks that an annotator has begun. Nothing is done before `due_at`;
    where all is done, it is when drafts were last tidied.
    What one job alone may do it does with the lease: `lease` counts claims and commands, and only the newest may write;
    `heartbeat_at` is when the job renewed it, None while no job has it. `jobs` counts the jobs that have begun.
    `read_at` is when this was read; all times are by the database's clock.
    """

    project_id: int
    mode: str | None = None
    wanted: str | None = None
    version: str | None = None
    state: str = DONE
    stopped: bool = False
    of_version: str | None = None
    after_task: int = 0
    checked_to: int = 0
    checked: int = 0
    total: int = 0
    stored: int = 0
    failed: int = 0
    deleted: int = 0
    being_edited: int = 0
    requests: int = 0
    seconds: float = 0.0
    begun_at: datetime | None = None
    due_at: datetime | None = None
    lease: int = 0
    heartbeat_at: datetime | None = None
    failure: str | None = None
    per_minute: int | None = None
    listed: bool = False
    jobs: int = 0
    read_at: datetime = field(default_factory=now, compare=False)

    def is_due(self, champion: str | None, newest_task: int) -> bool:
        """Whether there is something to do, it is time, and no job has the lease."""
        if champion is None or self.stopped or self.is_claimed:
            return False
        in_time = self.due_at is None or has_come(self.due_at, self.read_at, OPEN_SECONDS)
        if self.failure and not in_time:
            return False
        if self.version != champion or self.state in {DRAFTING, TIDYING}:
            return True
        if self.mode == STORED and newest_task > self.checked_to:
            return True
        return self.state == WAITING and in_time

    @property
    def is_claimed(self) -> bool:
        """Whether a job has a lease on it that has not expired."""
        return self.heartbeat_at is not None and not has_expired(self.heartbeat_at, self.read_at)


class Refreshes(Database):
    """The part of the store that knows which drafts must be replaced."""

    def refresh_state(self, project_id: int) -> RefreshState:
        """How far the project is; a state with only its id where no refresh has begun."""
        with self.reading() as connection:
            return self._state(connection, project_id)

    def newest_task(self, project_id: int) -> int:
        """The greatest id of the project's tasks, 0 where none is known."""
        query = sa.select(sa.func.max(tasks.c.id)).where(tasks.c.project_id == project_id, ~tasks.c.deleted)
        with self.reading() as connection:
            return connection.scalar(query) or 0

    def is_untidy(self, state: RefreshState) -> bool:
        """Whether a live project that is done must be tidied again: Label Studio has asked for drafts since the last
        time. It may ask twice at once and then holds both answers."""
        tidied = state.due_at
        if state.state != DONE or state.mode != LIVE or state.stopped or tidied is None:
            return False
        if state.read_at < tidied + timedelta(seconds=OPEN_SECONDS):
            return False
        newest = sa.select(drafts.c.served_at).where(drafts.c.project_id == state.project_id)
        with self.reading() as connection:
            served_at = connection.scalar(newest.order_by(drafts.c.id.desc()).limit(1))
        return served_at is not None and served_at >= tidied

    def begin_job(self, project_id: int) -> RefreshState:
        """Count a job that begins, so that the next one gets another name in the queue."""
        with self.writing(project_id, durable=False) as connection:
            state = self._state(connection, project_id)
            return self._put(connection, state, {"jobs": state.jobs + 1})

    def claim_refresh(self, project_id: int) -> RefreshState | None:
        """Give this job the lease; None where the refresh is stopped, or another job has the lease."""
        with self.writing(project_id, durable=False) as connection:
            state = self._state(connection, project_id)
            if state.stopped or state.is_claimed:
                return None
            return self._put(connection, state, {"lease": state.lease + 1, "heartbeat_at": state.read_at})

    def save_refresh(
        self, project_id: int, lease: int, spent: Mapping[str, float] | None = None, renew: bool = False, **changes: Any
    ) -> RefreshState | None:
        """Change the state, add what was `spent` to its counts, and perhaps renew the lease; None, and nothing is
        written, where the lease is this job's no more."""
        with self.writing(project_id, durable=False) as connection:
            state = self._state(connection, project_id)
            if state.lease != lease:
                return None
            if renew:
                changes["heartbeat_at"] = state.read_at
            return self._put(connection, state, {**changes, **sums(replace(state, **changes), spent or {})})

    def renew_refresh(self, project_id: int, lease: int) -> bool:
        """Renew the job's lease; False, and nothing is written, where it was stopped or begun anew meanwhile."""
        mine = refreshes.c.project_id == project_id, refreshes.c.lease == lease, refreshes.c.heartbeat_at.is_not(None)
        with self.writing(project_id, durable=False) as connection:
            return (
                connection.execute(refreshes.update().where(*mine).values(heartbeat_at=clock(connection))).rowcount == 1
            )

    def fail_refresh(self, project_id: int, lease: int | None, version: str, failure: str) -> None:
        """Store why a job has failed, and let none begin for RETRY_SECONDS; nothing where it was stopped or begun anew
        meanwhile."""
        with self.writing(project_id, durable=False) as connection:
            state = self._state(connection, project_id)
            if state.lease != lease and (state.version != version or state.stopped):
                return
            due_at = state.read_at + timedelta(seconds=RETRY_SECONDS)
            kept = state.due_at if state.state == WAITING and state.due_at else due_at
            self._put(connection, state, {"failure": failure, "due_at": max(kept, due_at)})

    def order_refresh(self, project_id: int, **changes: Any) -> RefreshState:
        """Change the state for a person, and end the jobs that run."""
        with self.writing(project_id) as connection:
            mine = draft_chunks.c.project_id == project_id
            freed = {"claim": draft_chunks.c.claim + 1, "heartbeat_at": None}
            connection.execute(draft_chunks.update().where(mine).values(freed))
            state = self._state(connection, project_id)
            return self._put(connection, state, {"lease": state.lease + 1, "heartbeat_at": None, **changes})

    def begin_refresh(self, project_id: int, **changes: Any) -> RefreshState:
        """Begin it again from the first task, stopped or not."""
        return self.order_refresh(project_id, **{"version": None, "stopped": False, "failure": None, **changes})

    def stop_refresh(self, project_id: int) -> RefreshState:
        """End the jobs that run, and let none begin until a person resumes."""
        return self.order_refresh(project_id, stopped=True)

    def resume_refresh(self, project_id: int) -> RefreshState:
        """Continue where it was stopped; begin again where the last refresh is done."""
        if self.refresh_state(project_id).state == DONE:
            return self.begin_refresh(project_id)
        return self.order_refresh(project_id, stopped=False, failure=None)

    def _state(self, connection: sa.Connection, project_id: int) -> RefreshState:
        row = connection.execute(sa.select(refreshes).where(refreshes.c.project_id == project_id)).first()
        at = clock(connection)
        return RefreshState(**row._mapping, read_at=at) if row else RefreshState(project_id, read_at=at)

    def _put(self, connection: sa.Connection, state: RefreshState, changes: Mapping[str, Any]) -> RefreshState:
        """The state with the changes, stored; chunks of another version's list are of no use any more."""
        mine, changed = refreshes.c.project_id == state.project_id, replace(state, **changes)
        if changed.version != state.version:
            connection.execute(draft_chunks.delete().where(draft_chunks.c.project_id == state.project_id))
        if connection.execute(refreshes.update().where(mine).values(stored(changed))).rowcount == 0:
            connection.execute(refreshes.insert().values(stored(changed)))
        return changed


def stored(row: Any) -> dict[str, Any]:
    """The columns of a state or a chunk."""
    return {name: value for name, value in vars(row).items() if name != "read_at"}


def sums(state: RefreshState, counts: Mapping[str, float]) -> dict[str, float]:
    """The state's counts with these added."""
    return {name: getattr(state, name) + count for name, count in counts.items()}
