"""What calibrating scores needs: what became of drafts with signals, and what was learned from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from backend.store.database import Database, now
from backend.store.tables import calibrations, corrections, drafts

LATEST = 2000
"""Corrections that chances are learned from, the latest ones: they are of the drafts most like those to come."""


class Answered(NamedTuple):
    """A draft with signals, and the captions of the annotation that began with it."""

    signals: Mapping[str, float]
    draft: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class StoredCalibration:
    """What was learned up to the event `seq` from so many corrections of drafts with signals.

    `calibration` and `reliability` are those of `training.selection.calibration` as JSON; None where too few drafts
    were accepted, or changed.
    """

    id: int
    project_id: int
    seq: int
    corrections: int
    accepted: int
    calibration: Mapping[str, Any] | None
    reliability: Mapping[str, Any] | None
    made_at: datetime


class Calibrations(Database):
    """The part of the store for the calibration of scores."""

    def answered_drafts(self, project_id: int) -> list[Answered]:
        """The latest corrections of drafts with signals, the oldest first; no copied corrections."""
        found = _answered(project_id).subquery()
        latest = sa.select(found).order_by(found.c.seq.desc(), found.c.annotation_id.desc()).limit(LATEST).subquery()
        query = sa.select(drafts.c.signals, drafts.c.text, corrections.c.texts)
        query = query.join_from(latest, drafts, drafts.c.id == latest.c.draft_id)
        query = query.join(corrections, corrections.c.annotation_id == latest.c.annotation_id)
        with self.reading() as connection:
            rows = connection.execute(query.order_by(latest.c.seq, latest.c.annotation_id)).all()
        return [Answered(signals, draft, tuple(texts)) for signals, draft, texts in rows]

    def count_answered(self, project_id: int, after_seq: int = 0, most: int | None = None) -> int:
        """How many corrections there are of drafts with signals, of those that events after that one changed; counted
        up to `most`."""
        mine, own = _conditions(project_id)
        after = [corrections.c.seq > after_seq] if after_seq else []
        found = sa.select(corrections.c.seq).where(*mine, *after, sa.exists().where(*own)).limit(most).subquery()
        with self.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(found)) or 0

    def add_calibration(
        self,
        project_id: int,
        seq: int,
        corrections: int,
        accepted: int,
        calibration: Mapping[str, Any] | None,
        reliability: Mapping[str, Any] | None,
    ) -> None:
        row = calibrations.insert().values(
            project_id=project_id,
            seq=seq,
            corrections=corrections,
            accepted=accepted,
            calibration=calibration,
            reliability=reliability,
            made_at=now(),
        )
        with self.writing(project_id, durable=False) as connection:
            connection.execute(row)

    def newest_calibration(self, project_id: int, learned: bool = True) -> StoredCalibration | None:
        """The newest one with something learned, or with `learned` False the newest of all; None where there is
        none."""
        query = sa.select(calibrations).where(*_of(project_id, learned)).order_by(calibrations.c.id.desc()).limit(1)
        with self.reading() as connection:
            row = connection.execute(query).first()
        return StoredCalibration(**row._mapping) if row else None

    def calibration_number(self, project_id: int) -> int:
        """The id of the newest one with something learned, 0 for none."""
        with self.reading() as connection:
            return connection.scalar(sa.select(sa.func.max(calibrations.c.id)).where(*_of(project_id, True))) or 0


def _of(project_id: int, learned: bool) -> tuple[sa.ColumnElement[bool], ...]:
    mine = calibrations.c.project_id == project_id
    return (mine, calibrations.c.calibration.is_not(sa.null())) if learned else (mine,)


def _answered(project_id: int) -> sa.Select[Any]:
    """Usable corrections, by annotation, each with the newest draft of its task that has its draft's words and
    signals. The version is not compared: a selected task shows the same draft under another name."""
    made, (mine, own) = corrections.c, _conditions(project_id)
    query = sa.select(made.annotation_id, made.seq, sa.func.max(drafts.c.id).label("draft_id"))
    return query.join_from(corrections, drafts, sa.and_(*own)).where(*mine).group_by(made.annotation_id, made.seq)


def _conditions(project_id: int) -> tuple[tuple[sa.ColumnElement[bool], ...], tuple[sa.ColumnElement[bool], ...]]:
    """Of corrections, and of the drafts that they began as."""
    made = corrections.c
    mine = made.project_id == project_id, made.usable, made.draft_version.is_not(None), made.draft_text != ""
    of_task = drafts.c.project_id == made.project_id, drafts.c.task_id == made.task_id
    own = drafts.c.text == made.draft_text, drafts.c.from_task.is_(None), drafts.c.signals.is_not(sa.null())
    return mine, (*of_task, *own)
