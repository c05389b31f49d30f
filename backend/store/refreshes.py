"""What is remembered of spreading a version's drafts over a project: in which mode it is and how far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from backend.store.database import Database, now
from backend.store.tables import refreshes, tasks

LIVE = "live"
"""Label Studio asks the backend for the drafts of each task it opens."""
STORED = "stored"
"""Label Studio shows, and orders by, what is stored under one version."""

DRAFTING, WAITING, TIDYING, DONE = "drafting", "waiting", "tidying", "done"

BEAT_SECONDS = 5.0
LEASE_SECONDS = 30.0
"""A job not heard of for so long has died, and another goes on."""


@dataclass(frozen=True)
class Refreshed:
    """How far the drafts of a project's unlabelled tasks are those of `version`.

    `mode` is what Label Studio said when last asked; `wanted` a mode that is entered once its drafts are all there.
    `of_version` and `after_task` say where it is in the list, `looked_to` which tasks the stored mode has seen.
    `looked` of `total` tasks have been looked at, `stored` of them got a draft, `failed` could not get one; `deleted`
    counts old predictions, `in_hand` tasks that somebody is at. Nothing is done before `due_at`. `part` counts jobs and
    commands, and only the newest may write; `beat_at` is when a job was last heard of, None while there is none.
    """

    project_id: int
    mode: str | None = None
    wanted: str | None = None
    version: str | None = None
    state: str = DONE
    stopped: bool = False
    of_version: str | None = None
    after_task: int = 0
    looked_to: int = 0
    looked: int = 0
    total: int = 0
    stored: int = 0
    failed: int = 0
    deleted: int = 0
    in_hand: int = 0
    requests: int = 0
    seconds: float = 0.0
    begun_at: datetime | None = None
    due_at: datetime | None = None
    part: int = 0
    beat_at: datetime | None = None
    failure: str | None = None

    def is_due(self, champion: str | None, newest_task: int) -> bool:
        """Whether a job is to go on with it: there is something to do, it is time, and nobody is at it."""
        if champion is None or self.stopped or self.is_worked_on:
            return False
        if self.failure and self.due_at and now() < self.due_at:
            return False
        if self.version != champion or self.state in {DRAFTING, TIDYING}:
            return True
        if self.mode == STORED and newest_task > self.looked_to:
            return True
        return self.state == WAITING and (self.due_at is None or now() >= self.due_at)

    @property
    def is_worked_on(self) -> bool:
        return self.beat_at is not None and now() - self.beat_at < timedelta(seconds=LEASE_SECONDS)


class Refreshes(Database):
    """The part of the store that says which drafts have to be made anew."""

    def refreshed(self, project_id: int) -> Refreshed:
        """How far the project is; nothing but its number where nothing has been begun."""
        with self.reading() as connection:
            return self._state(connection, project_id)

    def newest_task(self, project_id: int) -> int:
        """The greatest id of the project's tasks, 0 where none is known."""
        query = sa.select(sa.func.max(tasks.c.id)).where(tasks.c.project_id == project_id, ~tasks.c.deleted)
        with self.reading() as connection:
            return connection.scalar(query) or 0

    def claim_refresh(self, project_id: int) -> Refreshed | None:
        """Let this process go on with it; None where it is stopped, or another is at it."""
        with self.writing(project_id, durable=False) as connection:
            state = self._state(connection, project_id)
            if state.stopped or state.is_worked_on:
                return None
            return self._put(connection, replace(state, part=state.part + 1, beat_at=now()))

    def save_refresh(self, state: Refreshed) -> bool:
        """Remember how far it is; False, and nothing is written, where it was stopped or begun anew meanwhile."""
        with self.writing(state.project_id, durable=False) as connection:
            mine = self._state(connection, state.project_id).part == state.part
            if mine:
                self._put(connection, state)
            return mine

    def beat_refresh(self, project_id: int, part: int) -> None:
        """Say that the job is still at it; nothing happens where it was stopped or begun anew meanwhile."""
        mine = (refreshes.c.project_id == project_id) & (refreshes.c.part == part)
        with self.writing(project_id, durable=False) as connection:
            connection.execute(refreshes.update().where(mine, refreshes.c.beat_at.is_not(None)).values(beat_at=now()))

    def order_refresh(self, project_id: int, **changes: Any) -> Refreshed:
        """A person's word: change this of it, and let the job that is at it end."""
        with self.writing(project_id) as connection:
            state = self._state(connection, project_id)
            return self._put(connection, replace(state, part=state.part + 1, beat_at=None, **changes))

    def begin_refresh(self, project_id: int, **changes: Any) -> Refreshed:
        """Have it done from the beginning, stopped or not."""
        return self.order_refresh(project_id, **{"version": None, "stopped": False, "failure": None, **changes})

    def stop_refresh(self, project_id: int) -> Refreshed:
        """Let the job that is at it end, and no other begin until a person says so."""
        return self.order_refresh(project_id, stopped=True)

    def resume_refresh(self, project_id: int) -> Refreshed:
        """Go on where it was; begin anew where nothing is under way."""
        if self.refreshed(project_id).state == DONE:
            return self.begin_refresh(project_id)
        return self.order_refresh(project_id, stopped=False, failure=None)

    def _state(self, connection: sa.Connection, project_id: int) -> Refreshed:
        row = connection.execute(sa.select(refreshes).where(refreshes.c.project_id == project_id)).first()
        return Refreshed(**row._mapping) if row else Refreshed(project_id)

    def _put(self, connection: sa.Connection, state: Refreshed) -> Refreshed:
        connection.execute(refreshes.delete().where(refreshes.c.project_id == state.project_id))
        connection.execute(refreshes.insert().values(**vars(state)))
        return state
