"""Rows that keep what was forgotten from coming in again: Label Studio may still have it, and tells of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backend.domain.corrections import Event, Task
from backend.store.database import Database, chunks
from backend.store.tables import corrections, tasks


def is_another(created_at: datetime | None, known: Mapping[str, Any]) -> bool:
    """Whether this is another object than the known one with its id: a fresh Label Studio uses ids again.

    Where the creation time of the known one is unknown, it was created before it was recorded.
    """
    return created_at is not None and created_at > (known["created_at"] or known["recorded_at"])


def without_forgotten(connection: Connection, event: Event) -> Event:
    """The event without annotations and tasks that were forgotten; its body is empty where there were any."""
    of_tasks = {correction.task_id for correction in event.corrections} | {task.id for task in event.tasks}
    gone = _forgotten(connection, tasks.c.id, of_tasks, tasks.c.project_id == event.project_id)
    created = {task.id: task.created_at for task in event.tasks}
    gone = {id_: row for id_, row in gone.items() if not is_another(created.get(id_), row)}
    ids = [correction.annotation_id for correction in event.corrections]
    buried = _forgotten(connection, corrections.c.annotation_id, ids)
    kept = tuple(
        each
        for each in event.corrections
        if each.task_id not in gone
        and (each.annotation_id not in buried or is_another(each.created_at, buried[each.annotation_id]))
    )
    if len(kept) == len(event.corrections) and not gone:
        return event
    return replace(event, corrections=kept, tasks=tuple(task for task in event.tasks if task.id not in gone), body={})


def forgotten_tasks(database: Database, project_id: int, wanted: Sequence[Task]) -> set[int]:
    """Which of these tasks were forgotten, by their ids."""
    with database.reading() as connection:
        gone = _forgotten(connection, tasks.c.id, [task.id for task in wanted], tasks.c.project_id == project_id)
    return {task.id for task in wanted if task.id in gone and not is_another(task.created_at, gone[task.id])}


def _forgotten(
    connection: Connection, column: sa.Column[Any], ids: Collection[int], *where: sa.ColumnElement[bool]
) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for some in chunks(sorted(set(ids))):
        mine = column.in_(some), column.table.c.forgotten, *where
        for row in connection.execute(sa.select(column.table).where(*mine)).mappings():
            found[row[column.name]] = dict(row)
    return found
