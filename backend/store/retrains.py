"""Retrains as rows: at most one is active for a project, triggers coalesce, an interrupted one is resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backend.domain.corrections import corrections_until_retrain
from backend.store.database import Database, clock, now
from backend.store.lease import LEASE_SECONDS, has_come, has_expired
from backend.store.tables import corrections, events, projects, retrains

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)
REGISTER = "register"
"""From this phase on a retrain cannot be cancelled: its version is being registered and perhaps promoted."""
MAX_DEATHS = 5
MAX_POSTPONED = 6
POSTPONED_SECONDS = 15.0
"""The first delay of a retrain whose images cannot be fetched now; each further one is twice as long."""
LONGEST_SECONDS = POSTPONED_SECONDS * 2**MAX_POSTPONED

_ACTIVE = (QUEUED, RUNNING)


@dataclass(frozen=True)
class Retrain:
    """One retrain of a project on its corrections up to event `cutoff_seq`.

    `outcome` is one sentence once it has ended or been postponed, `version` the candidate it made, `progress` its last
    report. `attempt` counts the processes that began it, `deaths` those that ended without recording an outcome. A
    `postponed` one waits until `due_at`. Time between two attempts moves `started_at` on. `read_at` is when this was
    read; all times are by the database's clock.
    """

    id: int
    project_id: int
    snapshot: str
    cutoff_seq: int
    frozen: bool
    attempt: int
    state: str
    outcome: str | None
    version: str | None
    progress: dict[str, Any]
    requested_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None
    ended_at: datetime | None
    deaths: int = 0
    postponed: int = 0
    due_at: datetime | None = None
    read_at: datetime = field(default_factory=now, compare=False)

    @property
    def active(self) -> bool:
        return self.state in _ACTIVE

    @property
    def due(self) -> bool:
        """Whether a worker may begin it now."""
        return self.state == QUEUED and (not self.due_at or has_come(self.due_at, self.read_at, LONGEST_SECONDS))

    @property
    def seconds(self) -> float | None:
        """How long it ran, without waiting in the queue; None when it has not ended or never began."""
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None

    @property
    def registers(self) -> bool:
        """Whether its process is registering its version."""
        return self.state == RUNNING and self.progress.get("phase") == REGISTER and not self.stale()

    def stale(self, after_seconds: float = LEASE_SECONDS) -> bool:
        """Whether its process is taken to have died: no heartbeat for `after_seconds`."""
        return self.state == RUNNING and has_expired(
            self.heartbeat_at or self.requested_at, self.read_at, after_seconds
        )


class Retrains(Database):
    """The part of the store that decides when a project retrains and which process runs it."""

    def request_retrain(self, project_id: int, asked: bool, every: int) -> Retrain | None:
        """The active retrain of the project, made now if one is due; None when none is active or due.

        `corrections_until_retrain` says when one is due; with `every` 0 none is by itself. When a person asked, one is
        due after the first new correction. The request is kept until a retrain begins, so that asking while one runs,
        or before the first correction has arrived, is not lost. After a failed or cancelled retrain, newer corrections
        alone make the next begin by itself; a request also counts the corrections that retrain had.
        """
        if not asked:
            with self.reading() as connection:  # most webhooks need no write, and this is asked every few seconds
                active = _active(connection, project_id)
                if active is not None or not _is_due(connection, project_id, every):
                    return active
        with self.writing(project_id) as connection:
            if asked:
                _set_asked(connection, project_id, True)
            active = _active(connection, project_id)
            if active is None and _is_due(connection, project_id, every):
                active = _create(connection, project_id)
                _set_asked(connection, project_id, False)
        return active

    def corrections_until_retrain(self, project_id: int, every: int) -> int:
        """How many more usable corrections make the project's next retrain due."""
        with self.reading() as connection:
            return _corrections_until_retrain(connection, project_id, every)

    def cancel_retrain(self, project_id: int) -> Retrain | None:
        """End the active retrain of the project; None when none is active, or it is too late (REGISTER).

        Its process can write nothing more and notices that at its next heartbeat. All corrections of this moment count
        as tried, and an earlier request for training is dropped, so that the next does not begin by itself at once.
        """
        if not any(retrain.active for retrain in self.retrains(project_id, limit=1)):
            return None  # before `writing` could add a row for an unknown project
        with self.writing(project_id) as connection:
            active = _active(connection, project_id)
            if active is None or active.registers:
                return None
            _set_asked(connection, project_id, False)
            ended = {"state": CANCELLED, "outcome": "It was cancelled.", "ended_at": clock(connection)}
            return _change(connection, active.id, **ended, cutoff_seq=_newest_seq(connection, project_id))

    def get_retrain(self, retrain_id: int) -> Retrain | None:
        with self.reading() as connection:
            return next(iter(_select(connection, retrains.c.id == retrain_id)), None)

    def retrains(self, project_id: int, limit: int = 20) -> list[Retrain]:
        """Retrains of the project, newest first."""
        with self.reading() as connection:
            return _select(connection, retrains.c.project_id == project_id, limit=limit)

    def queued_retrains(self) -> list[Retrain]:
        """Retrains that a worker may begin now."""
        return [retrain for retrain in self._in_state(QUEUED) if retrain.due]

    def stale_retrains(self, older_than_seconds: float = LEASE_SECONDS) -> list[Retrain]:
        """Running retrains without a heartbeat for so long."""
        return [retrain for retrain in self._in_state(RUNNING) if retrain.stale(older_than_seconds)]

    def claim_retrain(self, retrain_id: int, stale_after_seconds: float = LEASE_SECONDS) -> Retrain | None:
        """Begin the next attempt at it. None when it has ended, waits, runs in another process, or died too often.

        A process without a heartbeat for `stale_after_seconds` is taken to have died.
        """
        with self.claiming() as connection:
            retrain = next(iter(_select(connection, retrains.c.id == retrain_id, to_claim=True)), None)
            if retrain is None or (not retrain.due and not retrain.stale(stale_after_seconds)):
                return None
            at = retrain.read_at
            deaths = retrain.deaths + (retrain.state == RUNNING)
            if deaths >= MAX_DEATHS:
                outcome = f"Its process died {deaths} times; the machine may be short of memory."
                _change(connection, retrain_id, state=FAILED, deaths=deaths, outcome=outcome, ended_at=at)
                return None
            begun, heard = retrain.started_at, retrain.heartbeat_at
            return _change(
                connection,
                retrain_id,
                state=RUNNING,
                attempt=retrain.attempt + 1,
                deaths=deaths,
                outcome=None,
                due_at=None,
                started_at=at - (heard - begun if heard and begun else timedelta()),
                heartbeat_at=at,
                progress={},
            )

    def freeze_retrain(self, claimed: Retrain) -> Retrain | None:
        """Set the cutoff to the newest event, once: a later attempt keeps it. None when superseded."""
        with self.writing(claimed.project_id) as connection:
            [retrain] = _select(connection, retrains.c.id == claimed.id)
            if retrain.state != RUNNING or retrain.attempt != claimed.attempt:
                return None
            if retrain.frozen:
                return retrain
            _set_asked(connection, retrain.project_id, False)  # this retrain answers every request up to now
            cutoff = _newest_seq(connection, retrain.project_id)
            snapshot = _snapshot(retrain.project_id, cutoff)
            return _change(connection, retrain.id, frozen=True, cutoff_seq=cutoff, snapshot=snapshot)

    def renew_retrain(self, retrain: Retrain, progress: dict[str, Any]) -> bool:
        """Renew the attempt's lease and store its progress. False: it was superseded or cancelled, and must stop."""
        return self._write_attempt(retrain, lambda at: {"heartbeat_at": at, "progress": progress}, durable=False)

    def release_retrain(self, retrain: Retrain) -> bool:
        """Queue it again: its process was told to stop. False when the attempt was superseded."""
        return self._write_attempt(retrain, lambda at: {"state": QUEUED})

    def postpone_retrain(self, retrain: Retrain, reason: str) -> bool:
        """Queue it again for later, with the corrections recorded by then. False when it was superseded."""
        delay = timedelta(seconds=POSTPONED_SECONDS * 2 ** min(retrain.postponed, MAX_POSTPONED))
        values = {"state": QUEUED, "frozen": False, "postponed": retrain.postponed + 1, "outcome": reason}
        return self._write_attempt(retrain, lambda at: {**values, "due_at": at + delay})

    def finish_retrain(self, retrain: Retrain, *, state: str, outcome: str, version: str | None = None) -> bool:
        """End it as DONE or FAILED with one sentence. False, and nothing changes, when the attempt was superseded."""
        values = {"state": state, "outcome": outcome, "version": version}
        return self._write_attempt(retrain, lambda at: {**values, "ended_at": at, "heartbeat_at": at})

    def _write_attempt(
        self, retrain: Retrain, values: Callable[[datetime], dict[str, Any]], durable: bool = True
    ) -> bool:
        mine = retrains.c.id == retrain.id, retrains.c.attempt == retrain.attempt, retrains.c.state == RUNNING
        with self.writing(retrain.project_id, durable) as connection:
            return connection.execute(retrains.update().where(*mine).values(values(clock(connection)))).rowcount == 1

    def _in_state(self, state: str) -> list[Retrain]:
        """Oldest first."""
        with self.reading() as connection:
            return _select(connection, retrains.c.state == state)[::-1]


def new_corrections(
    connection: Connection, project_id: int, states: tuple[str, ...] = (DONE,), most: int | None = None
) -> int:
    """Usable corrections of the project that changed after the newest retrain in one of `states` was cut off, counted
    up to `most`."""
    return _usable(connection, project_id, corrections.c.seq > _cutoff(connection, project_id, states), most)


def _is_due(connection: Connection, project_id: int, every: int) -> bool:
    """Whether a retrain must begin, by itself or because a person asked."""
    if every and _corrections_until_retrain(connection, project_id, every) == 0:
        return True
    asked = connection.scalar(sa.select(projects.c.training_asked).where(projects.c.id == project_id))
    return bool(asked and new_corrections(connection, project_id))


def _corrections_until_retrain(connection: Connection, project_id: int, every: int) -> int:
    before = corrections.c.seq <= _cutoff(connection, project_id, ENDED)
    known = _usable(connection, project_id, before, most=4 * every)  # a quarter of more is more than `every` anyway
    new = new_corrections(connection, project_id, ENDED, most=every)  # it never takes more
    ran = retrains.c.project_id == project_id, retrains.c.state.in_(ENDED), retrains.c.started_at.is_not(None)
    took = sum(each.seconds or 0.0 for each in _select(connection, *ran, limit=1))
    return corrections_until_retrain(known, new, took, every)


def _cutoff(connection: Connection, project_id: int, states: tuple[str, ...]) -> int:
    mine = retrains.c.project_id == project_id, retrains.c.state.in_(states)
    return connection.scalar(sa.select(sa.func.max(retrains.c.cutoff_seq)).where(*mine)) or 0


def _usable(connection: Connection, project_id: int, when: sa.ColumnElement[bool], most: int | None = None) -> int:
    mine = corrections.c.project_id == project_id, corrections.c.usable, when
    found = sa.select(corrections.c.seq).where(*mine).limit(most).subquery()
    return connection.scalar(sa.select(sa.func.count()).select_from(found)) or 0


def _create(connection: Connection, project_id: int) -> Retrain:
    cutoff = _newest_seq(connection, project_id)
    values = {"project_id": project_id, "snapshot": _snapshot(project_id, cutoff), "cutoff_seq": cutoff}
    result = connection.execute(retrains.insert().values(**values, state=QUEUED, requested_at=clock(connection)))
    assert result.inserted_primary_key is not None
    [created] = _select(connection, retrains.c.id == result.inserted_primary_key[0])
    return created


def _snapshot(project_id: int, cutoff_seq: int) -> str:
    return f"{project_id}-{cutoff_seq}"


def _newest_seq(connection: Connection, project_id: int) -> int:
    return connection.scalar(sa.select(sa.func.max(events.c.seq)).where(events.c.project_id == project_id)) or 0


def _active(connection: Connection, project_id: int) -> Retrain | None:
    mine = retrains.c.project_id == project_id, retrains.c.state.in_(_ACTIVE)
    return next(iter(_select(connection, *mine, limit=1)), None)


def _select(
    connection: Connection, *where: sa.ColumnElement[bool], limit: int | None = None, to_claim: bool = False
) -> list[Retrain]:
    """Newest first; `to_claim`: locked, without those that another process is claiming."""
    query = sa.select(retrains).where(*where).order_by(retrains.c.id.desc()).limit(limit)
    rows = connection.execute(query.with_for_update(skip_locked=True) if to_claim else query).all()
    return [Retrain(**row._mapping, read_at=at) for row in rows for at in [clock(connection)]]


def _change(connection: Connection, retrain_id: int, **values: Any) -> Retrain:
    connection.execute(retrains.update().where(retrains.c.id == retrain_id).values(**values))
    [changed] = _select(connection, retrains.c.id == retrain_id)
    return changed


def _set_asked(connection: Connection, project_id: int, asked: bool) -> None:
    other = projects.c.id == project_id, projects.c.training_asked != asked
    connection.execute(projects.update().where(*other).values(training_asked=asked))
