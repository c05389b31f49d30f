"""Retrains as rows: at most one is active for a project, triggers coalesce, an interrupted one is resumed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from backend.domain.corrections import retrain_due
from backend.store.database import Database, now
from backend.store.lease import LEASE_SECONDS, has_expired
from backend.store.tables import corrections, events, projects, retrains

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)
REGISTER = "register"
"""From this phase on a retrain cannot be cancelled: its version is being registered and perhaps promoted."""
MAX_DEATHS = 5
MAX_POSTPONED = 6
POSTPONED_SECONDS = 15.0
"""The first delay of a retrain whose images cannot be fetched now; each further one is twice as long."""

_ACTIVE = (QUEUED, RUNNING)


@dataclass(frozen=True)
class Retrain:
    """One retrain of a project on its corrections up to event `cutoff_seq`.

    `outcome` is one sentence once it has ended or been postponed, `version` the candidate it made, `progress` its last
    report. `attempt` counts the processes that began it, `deaths` those that ended without recording an outcome. A
    `postponed` one waits until `due_at`.
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

    @property
    def active(self) -> bool:
        return self.state in _ACTIVE

    @property
    def due(self) -> bool:
        """Whether a worker may begin it now."""
        return self.state == QUEUED and (self.due_at is None or self.due_at <= now())

    @property
    def registers(self) -> bool:
        """Whether its process is registering its version."""
        return self.state == RUNNING and self.progress.get("phase") == REGISTER and not self.stale()

    def stale(self, after_seconds: float = LEASE_SECONDS) -> bool:
        """Whether its process is taken to have died: no heartbeat for `after_seconds`."""
        return self.state == RUNNING and has_expired(self.heartbeat_at or self.requested_at, after_seconds)


class Retrains(Database):
    """The part of the store that decides when a project retrains and which process runs it."""

    def request_retrain(self, project_id: int, asked: bool, every: int) -> Retrain | None:
        """The active retrain of the project, made now if one is due; None when none is active or due.

        One is due after `every` new usable corrections, or after the first one when a person asked. The request is kept
        until a retrain begins, so that asking while one runs, or before the first correction has arrived, is not lost.
        After a failed or cancelled retrain, the next begins by itself after `every` newer corrections; a request also
        counts the corrections that retrain had.
        """
        if not asked:
            with self.reading() as connection:  # most webhooks during a retrain need no write
                active = _newest(connection, project_id, _ACTIVE)
            if active is not None:
                return active
        with self.writing(project_id) as connection:
            active = _newest(connection, project_id, _ACTIVE)
            asked = asked or bool(connection.scalar(sa.select(projects.c.training_asked).where(_is(project_id))))
            if active is None:
                since_done = new_corrections(connection, project_id)
                since_ended = new_corrections(connection, project_id, states=ENDED)
                if retrain_due(since_ended, every, asked=False) or (asked and retrain_due(since_done, every, asked)):
                    active, asked = _create(connection, project_id), False
            connection.execute(
                projects.update()
                .where(_is(project_id), projects.c.training_asked != asked)
                .values(training_asked=asked)
            )
        return active

    def cancel_retrain(self, project_id: int) -> Retrain | None:
        """End the active retrain of the project; None when none is active, or it is too late (REGISTER).

        Its process can write nothing more and notices that at its next heartbeat. All corrections of this moment count
        as tried, and an earlier request for training is dropped, so that the next does not begin by itself at once.
        """
        if not any(retrain.active for retrain in self.retrains(project_id, limit=1)):
            return None  # before `writing` could add a row for an unknown project
        with self.writing(project_id) as connection:
            active = _newest(connection, project_id, _ACTIVE)
            if active is None or active.registers:
                return None
            ended = {"state": CANCELLED, "outcome": "It was cancelled.", "ended_at": now()}
            _change(connection, active.id, **ended, cutoff_seq=_newest_seq(connection, project_id))
            connection.execute(projects.update().where(_is(project_id)).values(training_asked=False))
            return _get(connection, active.id)

    def get_retrain(self, retrain_id: int) -> Retrain | None:
        with self.reading() as connection:
            return _retrain(connection.execute(sa.select(retrains).where(retrains.c.id == retrain_id)).first())

    def retrains(self, project_id: int, limit: int = 20) -> list[Retrain]:
        """Retrains of the project, newest first."""
        query = sa.select(retrains).where(retrains.c.project_id == project_id)
        with self.reading() as connection:
            rows = connection.execute(query.order_by(retrains.c.id.desc()).limit(limit)).all()
        return [Retrain(**row._mapping) for row in rows]

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
        known = self.get_retrain(retrain_id)
        if known is None:
            return None
        with self.writing(known.project_id) as connection:
            retrain = _get(connection, retrain_id)
            if not retrain.due and not retrain.stale(stale_after_seconds):
                return None
            deaths = retrain.deaths + (retrain.state == RUNNING)
            if deaths >= MAX_DEATHS:
                outcome = f"Its process died {deaths} times; the machine may be short of memory."
                _change(connection, retrain_id, state=FAILED, deaths=deaths, outcome=outcome, ended_at=now())
                return None
            started = retrain.started_at or now()
            _change(
                connection,
                retrain_id,
                state=RUNNING,
                attempt=retrain.attempt + 1,
                deaths=deaths,
                outcome=None,
                due_at=None,
                started_at=started,
                heartbeat_at=now(),
                progress={},
            )
            return _get(connection, retrain_id)

    def freeze_retrain(self, retrain_id: int, attempt: int) -> Retrain | None:
        """Set the cutoff to the newest event, once: a later attempt keeps it. None when superseded."""
        known = self.get_retrain(retrain_id)
        if known is None:
            return None
        with self.writing(known.project_id) as connection:
            retrain = _get(connection, retrain_id)
            if retrain.state != RUNNING or retrain.attempt != attempt:
                return None
            if not retrain.frozen:
                cutoff = _newest_seq(connection, retrain.project_id)
                snapshot = _snapshot(retrain.project_id, cutoff)
                _change(connection, retrain_id, frozen=True, cutoff_seq=cutoff, snapshot=snapshot)
                # This retrain answers every request up to now.
                connection.execute(projects.update().where(_is(retrain.project_id)).values(training_asked=False))
            return _get(connection, retrain_id)

    def renew_retrain(self, retrain_id: int, attempt: int, progress: dict[str, Any]) -> bool:
        """Renew the attempt's lease and store its progress. False: it was superseded or cancelled, and must stop."""
        return self._write_attempt(retrain_id, attempt, durable=False, heartbeat_at=now(), progress=progress)

    def release_retrain(self, retrain_id: int, attempt: int) -> bool:
        """Queue it again: its process was told to stop. False when the attempt was superseded."""
        return self._write_attempt(retrain_id, attempt, state=QUEUED)

    def postpone_retrain(self, retrain: Retrain, reason: str) -> bool:
        """Queue it again for later, with the corrections recorded by then. False when it was superseded."""
        delay = timedelta(seconds=POSTPONED_SECONDS * 2**retrain.postponed)
        return self._write_attempt(
            retrain.id,
            retrain.attempt,
            state=QUEUED,
            frozen=False,
            postponed=retrain.postponed + 1,
            due_at=now() + delay,
            outcome=reason,
        )

    def finish_retrain(
        self, retrain_id: int, attempt: int, *, state: str, outcome: str, version: str | None = None
    ) -> bool:
        """End it as DONE or FAILED with one sentence. False, and nothing changes, when the attempt was superseded."""
        return self._write_attempt(
            retrain_id, attempt, state=state, outcome=outcome, version=version, ended_at=now(), heartbeat_at=now()
        )

    def _write_attempt(self, retrain_id: int, attempt: int, durable: bool = True, **values: Any) -> bool:
        known = self.get_retrain(retrain_id)
        if known is None:
            return False
        with self.writing(known.project_id, durable) as connection:
            mine = (retrains.c.id == retrain_id) & (retrains.c.attempt == attempt) & (retrains.c.state == RUNNING)
            return connection.execute(retrains.update().where(mine).values(**values)).rowcount == 1

    def _in_state(self, state: str) -> list[Retrain]:
        with self.reading() as connection:
            rows = connection.execute(
                sa.select(retrains).where(retrains.c.state == state).order_by(retrains.c.id)
            ).all()
        return [Retrain(**row._mapping) for row in rows]


def new_corrections(connection: Connection, project_id: int, states: tuple[str, ...] = (DONE,)) -> int:
    """Usable corrections of the project that changed after the newest retrain in one of `states` was cut off."""
    cutoff = sa.select(sa.func.max(retrains.c.cutoff_seq)).where(
        retrains.c.project_id == project_id, retrains.c.state.in_(states)
    )
    return connection.scalar(
        sa.select(sa.func.count())
        .select_from(corrections)
        .where(
            corrections.c.project_id == project_id,
            corrections.c.usable,
            corrections.c.seq > (connection.scalar(cutoff) or 0),
        )
    ) or 0  # fmt: skip


def _create(connection: Connection, project_id: int) -> Retrain:
    cutoff = _newest_seq(connection, project_id)
    result = connection.execute(
        retrains.insert().values(
            project_id=project_id,
            snapshot=_snapshot(project_id, cutoff),
            cutoff_seq=cutoff,
            frozen=False,
            attempt=0,
            state=QUEUED,
            deaths=0,
            postponed=0,
            progress={},
            requested_at=now(),
        )
    )
    assert result.inserted_primary_key is not None
    return _get(connection, result.inserted_primary_key[0])


def _snapshot(project_id: int, cutoff_seq: int) -> str:
    return f"{project_id}-{cutoff_seq}"


def _newest_seq(connection: Connection, project_id: int) -> int:
    return connection.scalar(sa.select(sa.func.max(events.c.seq)).where(events.c.project_id == project_id)) or 0


def _newest(connection: Connection, project_id: int, states: tuple[str, ...]) -> Retrain | None:
    query = sa.select(retrains).where(retrains.c.project_id == project_id, retrains.c.state.in_(states))
    return _retrain(connection.execute(query.order_by(retrains.c.id.desc()).limit(1)).first())


def _get(connection: Connection, retrain_id: int) -> Retrain:
    return Retrain(**connection.execute(sa.select(retrains).where(retrains.c.id == retrain_id)).one()._mapping)


def _change(connection: Connection, retrain_id: int, **values: Any) -> None:
    connection.execute(retrains.update().where(retrains.c.id == retrain_id).values(**values))


def _retrain(row: Row[Any] | None) -> Retrain | None:
    return None if row is None else Retrain(**row._mapping)


def _is(project_id: int) -> sa.ColumnElement[bool]:
    return projects.c.id == project_id
