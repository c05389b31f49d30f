"""How far the drafts of a project's unlabelled tasks have been replaced by those of its champion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from backend.store.database import Database, now
from backend.store.lease import has_expired
from backend.store.tables import drafts, refreshes, tasks

LIVE = "live"
"""Label Studio asks the backend for the drafts of each task it opens."""
STORED = "stored"
"""Label Studio shows, and orders by, what is stored under one version."""

DRAFTING, WAITING, TIDYING, DONE = "drafting", "waiting", "tidying", "done"

OPEN_SECONDS = 600.0
"""A task may be open in an editor for so long without anything typed before a superfluous draft is deleted."""


@dataclass(frozen=True)
class RefreshState:
    """How far the drafts of a project's unlabelled tasks are those of `version`.

    `mode` is what Label Studio said when last asked; `wanted` is a mode to enter once all its drafts are stored.
    `of_version` and `after_task` say where the run is in the list, `checked_to` is the last task that the stored mode
    has checked. `checked` of `total` tasks have been checked: `stored` of them got a draft, `failed` could not get one.
    `deleted` counts old predictions, `being_edited` tasks that an annotator has begun. Nothing is done before `due_at`;
    where all is done, it is when drafts were last tidied.
    `lease` counts jobs and commands, and only the newest may write; `heartbeat_at` is when the job renewed its lease,
    None while no job runs.
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

    def is_due(self, champion: str | None, newest_task: int) -> bool:
        """Whether a job must run: there is something to do, it is time, and no other job runs."""
        if champion is None or self.stopped or self.is_claimed:
            return False
        if self.failure and self.due_at and now() < self.due_at:
            return False
        if self.version != champion or self.state in {DRAFTING, TIDYING}:
            return True
        if self.mode == STORED and newest_task > self.checked_to:
            return True
        return self.state == WAITING and (self.due_at is None or now() >= self.due_at)

    @property
    def is_claimed(self) -> bool:
        """Whether a job has a lease on it that has not expired."""
        return self.heartbeat_at is not None and not has_expired(self.heartbeat_at)


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
        if now() < tidied + timedelta(seconds=OPEN_SECONDS):
            return False
        newest = sa.select(drafts.c.served_at).where(drafts.c.project_id == state.project_id)
        with self.reading() as connection:
            served_at = connection.scalar(newest.order_by(drafts.c.id.desc()).limit(1))
        return served_at is not None and served_at >= tidied

    def claim_refresh(self, project_id: int) -> RefreshState | None:
        """Give this process the lease; None where the refresh is stopped, or another process has the lease."""
        with self.writing(project_id, durable=False) as connection:
            state = self._state(connection, project_id)
            if state.stopped or state.is_claimed:
                return None
            return self._put(connection, replace(state, lease=state.lease + 1, heartbeat_at=now()))

    def save_refresh(self, state: RefreshState) -> bool:
        """Store how far it is; False, and nothing is written, where it was stopped or begun anew meanwhile."""
        with self.writing(state.project_id, durable=False) as connection:
            mine = self._state(connection, state.project_id).lease == state.lease
            if mine:
                self._put(connection, state)
            return mine

    def renew_refresh(self, project_id: int, lease: int) -> bool:
        """Renew the job's lease; False, and nothing is written, where it was stopped or begun anew meanwhile."""
        mine = refreshes.c.project_id == project_id, refreshes.c.lease == lease, refreshes.c.heartbeat_at.is_not(None)
        with self.writing(project_id, durable=False) as connection:
            return connection.execute(refreshes.update().where(*mine).values(heartbeat_at=now())).rowcount == 1

    def order_refresh(self, project_id: int, **changes: Any) -> RefreshState:
        """Change the state for a person, and end the job that runs."""
        with self.writing(project_id) as connection:
            state = self._state(connection, project_id)
            return self._put(connection, replace(state, lease=state.lease + 1, heartbeat_at=None, **changes))

    def begin_refresh(self, project_id: int, **changes: Any) -> RefreshState:
        """Begin it again from the first task, stopped or not."""
        return self.order_refresh(project_id, **{"version": None, "stopped": False, "failure": None, **changes})

    def stop_refresh(self, project_id: int) -> RefreshState:
        """End the job that runs, and let none begin until a person resumes."""
        return self.order_refresh(project_id, stopped=True)

    def resume_refresh(self, project_id: int) -> RefreshState:
        """Continue where it was stopped; begin again where the last refresh is done."""
        if self.refresh_state(project_id).state == DONE:
            return self.begin_refresh(project_id)
        return self.order_refresh(project_id, stopped=False, failure=None)

    def _state(self, connection: sa.Connection, project_id: int) -> RefreshState:
        row = connection.execute(sa.select(refreshes).where(refreshes.c.project_id == project_id)).first()
        return RefreshState(**row._mapping) if row else RefreshState(project_id)

    def _put(self, connection: sa.Connection, state: RefreshState) -> RefreshState:
        connection.execute(refreshes.delete().where(refreshes.c.project_id == state.project_id))
        connection.execute(refreshes.insert().values(**vars(state)))
        return state
