"""What the clients of `benchmarks.soak` sent and were answered, and how that compares with the database afterwards."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
import sqlalchemy as sa

from backend.store.store import Store
from backend.store.tables import alias_moves, correction_revisions, corrections, events
from benchmarks.soak_studio import PROJECT

MARK = "soak"
"""The key under which a webhook has its number; the backend stores the body as it came."""
LIMIT_SECONDS = 1.0
"""Label Studio waits so long for the answer to a webhook."""
AGREE_SECONDS = 5.0
"""Within so long all machines serve a new champion."""

REFUSED, DROPPED, LATE, UNAVAILABLE = "refused", "dropped", "timed_out", "503"
EXPECTED = (REFUSED, DROPPED, LATE, UNAVAILABLE)
"""Causes of failed requests that faults explain; any other status is a fault of the backend."""


def cause_of(failure: requests.RequestException | int) -> str:
    """Why a request failed: the status, or what became of the connection."""
    if isinstance(failure, int):
        return str(failure)
    if isinstance(failure, requests.ConnectTimeout | requests.ReadTimeout):
        return LATE
    return REFUSED if "refused" in str(failure).lower() else DROPPED


@dataclass(frozen=True)
class Window:
    """A time in which a fault acted, until everything was well again; `excuses`: versions may be late in it."""

    name: str
    begun: float
    ended: float
    excuses: bool = True

    def meets(self, begun: float, ended: float) -> bool:
        return self.begun <= ended and begun <= self.ended


@dataclass(frozen=True)
class Failure:
    """A request of this kind that failed, when it was sent and when it had failed, and why."""

    kind: str
    begun: float
    at: float
    cause: str
    detail: str = ""


@dataclass(frozen=True)
class Served:
    """A draft by a version in an answer; times by this machine's clock, in seconds."""

    sent: float
    answered: float
    version: str


@dataclass(frozen=True)
class Move:
    """The project's champion from then on."""

    at: float
    version: str | None


@dataclass
class Ledger:
    """Threads may share it. Webhooks are known by their numbers."""

    sent: set[int] = field(default_factory=set)
    acknowledged: dict[int, float] = field(default_factory=dict)
    """Seconds until the answer."""
    asked: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    without_draft: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, kind: str) -> None:
        with self._lock:
            self.asked[kind] += 1

    def fail(self, kind: str, begun: float, failure: requests.RequestException | int, detail: str = "") -> None:
        cause, detail = cause_of(failure), (detail or str(failure))[:300]
        with self._lock:
            self.failures.append(Failure(kind, begun, time.time(), cause, detail))

    def send(self) -> int:
        """The number of the next webhook."""
        with self._lock:
            number = len(self.sent) + 1
            self.sent.add(number)
            return number

    def acknowledge(self, number: int, seconds: float) -> None:
        with self._lock:
            self.acknowledged[number] = seconds

    def draft(self, sent: float, results: Iterable[Any]) -> None:
        """What an answer of /predict holds."""
        answered = time.time()
        with self._lock:
            for each in results:
                if each:
                    self.served.append(Served(sent, answered, each["model_version"]))
                else:
                    self.without_draft += 1

    def by_cause(self) -> Counter[str]:
        """Failed requests."""
        return Counter(each.cause if each.cause in EXPECTED else "other" for each in self.failures)


def stored_numbers(store: Store) -> Counter[int]:
    """How many times the database has each webhook."""
    query = sa.select(events.c.body[MARK].as_integer()).where(events.c.project_id == PROJECT)
    with store.reading() as connection:
        return Counter(number for number in connection.scalars(query) if number is not None)


def repeated_revisions(store: Store) -> int:
    """Revisions of annotations that the database has more than once."""
    log = correction_revisions.c
    columns = (log.annotation_id, log.updated_at, log.deleted, sa.cast(log.texts, sa.Text))
    grouped = sa.select(sa.func.count().label("times")).where(log.project_id == PROJECT).group_by(*columns).subquery()
    with store.reading() as connection:
        return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(grouped.c.times - 1), 0))) or 0)


def differences(store: Store, truth: Mapping[int, str | None]) -> list[int]:
    """Annotations of which the database says something else than Label Studio; None there is a deleted one."""
    table = corrections.c
    query = sa.select(table.annotation_id, table.texts, table.deleted).where(table.project_id == PROJECT)
    with store.reading() as connection:
        rows = connection.execute(query).all()
    known = {row.annotation_id: None if row.deleted else row.texts[0] for row in rows}
    return sorted(id_ for id_ in truth.keys() | known.keys() if truth.get(id_) != known.get(id_))


def champion_moves(store: Store) -> list[Move]:
    """Every champion that the project has had, in order."""
    query = sa.select(alias_moves).order_by(alias_moves.c.id)
    default: str | None = None
    own: str | None = None
    found: list[Move] = []
    with store.reading() as connection:
        for row in connection.execute(query.where(alias_moves.c.project_id.in_((0, PROJECT)))):
            if row.project_id:
                own = row.version
            else:
                default = row.version
            found.append(Move(row.moved_at.timestamp(), own or default))
    return found


@dataclass
class Versions:
    """How the versions of the drafts compare with the champions of their time."""

    wrong: list[Served] = field(default_factory=list)
    """By a version that was no champion then, nor within AGREE_SECONDS before, while no fault excused that; or by one
    that had never been."""
    excused: int = 0
    """By an earlier champion while a fault kept the newer one away."""


def judge(served: Sequence[Served], moves: Sequence[Move], windows: Sequence[Window]) -> Versions:
    found = Versions()
    ends = [move.at for move in moves[1:]] + [float("inf")]
    for draft in served:
        reigns = [
            (move.at, end)
            for move, end in zip(moves, ends, strict=True)
            if move.version == draft.version and move.at <= draft.answered
        ]
        if any(end + AGREE_SECONDS >= draft.sent for _, end in reigns):
            continue
        left = max((end for _, end in reigns), default=None)
        if left is not None and any(each.excuses and each.meets(left, draft.sent) for each in windows):
            found.excused += 1
        else:
            found.wrong.append(draft)
    return found
