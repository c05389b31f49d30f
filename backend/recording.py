"""What an event does to the rows: tasks, the newest revision of each correction, every revision, tombstones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backend.corrections import Correction, Event, Task
from backend.database import chunks, now
from backend.tables import correction_revisions, corrections, drafts, events, projects, tasks

RECONCILED = "RECONCILED"
"""Action of an event that was inferred from Label Studio's export, not sent by it."""


@dataclass(frozen=True)
class Receipt:
    """Of a recorded event: its number, and how many usable corrections it brought or changed."""

    seq: int
    new_corrections: int
    job: str | None = None  # the retrain that is queued or running after it


def record(connection: Connection, event: Event) -> Receipt:
    """Write the event and all its effects within the transaction that `connection` holds on its project."""
    result = connection.execute(
        events.insert().values(project_id=event.project_id, action=event.action, body=event.body, received_at=now())
    )
    assert result.inserted_primary_key is not None
    seq = result.inserted_primary_key[0]
    _record_tasks(connection, event)
    revisions = _revisions(connection, event, seq)
    _write_revisions(connection, [*revisions, *_deletions(connection, event, seq)], seq)
    if event.asks_for_training:
        connection.execute(projects.update().where(projects.c.id == event.project_id).values(training_asked=True))
    return Receipt(seq, sum(row["usable"] and row["seq"] == seq for row in revisions))


def drafts_of(
    connection: Connection, project_id: int, task_ids: Sequence[int], *where: sa.ColumnElement[bool]
) -> list[dict[str, Any]]:
    """Rows of drafts served for these tasks, oldest first."""
    found: list[dict[str, Any]] = []
    for some in chunks(task_ids):
        query = sa.select(drafts).where(drafts.c.project_id == project_id, drafts.c.task_id.in_(some), *where)
        found.extend(dict(row) for row in connection.execute(query.order_by(drafts.c.id)).mappings())
    return found


def _record_tasks(connection: Connection, event: Event) -> None:
    deleted = set(event.deleted_tasks)
    reported = {task.id: task for task in event.tasks}
    known = _known_tasks(connection, event.project_id, [*reported, *deleted])
    rows = []
    for task_id in sorted(reported.keys() | deleted):
        task = reported.get(task_id) or Task(task_id, event.project_id, None)
        found = known.get(task_id)
        old = None if found and _is_another(task.created_at, found) else found
        row = {
            "project_id": event.project_id,
            "id": task_id,
            "image": task.image or (old and old["image"]) or None,
            "created_at": task.created_at or (old and old["created_at"]),
            "deleted": task_id in deleted or bool(old and old["deleted"]),
        }
        if found is None or any(found[name] != value for name, value in row.items()):
            rows.append({**row, "recorded_at": now()})
    mine = tasks.c.project_id == event.project_id
    for some in chunks([row["id"] for row in rows]):
        connection.execute(tasks.delete().where(mine, tasks.c.id.in_(some)))
    if rows:
        connection.execute(tasks.insert(), rows)


def _revisions(connection: Connection, event: Event, seq: int) -> list[dict[str, Any]]:
    """Rows of `corrections` that the event brings or changes."""
    reported: dict[int, Correction] = {}
    for correction in event.corrections:
        other = reported.get(correction.annotation_id)
        if other is None or correction.updated_at >= other.updated_at:
            reported[correction.annotation_id] = correction
    known = {
        id_: row
        for id_, row in _known_corrections(connection, list(reported)).items()
        if not _is_another(reported[id_].created_at, row)
    }
    reported = {
        id_: correction
        for id_, correction in reported.items()
        if id_ not in known or (not known[id_]["deleted"] and known[id_]["updated_at"] < correction.updated_at)
    }
    task_ids = sorted({correction.task_id for correction in reported.values()})
    known_tasks = _known_tasks(connection, event.project_id, task_ids)
    served: dict[int, list[dict[str, Any]]] = {}
    for draft in drafts_of(connection, event.project_id, task_ids):
        served.setdefault(draft["task_id"], []).append(draft)
    rows = []
    for correction in reported.values():
        old, task = known.get(correction.annotation_id), known_tasks.get(correction.task_id)
        gone = bool(task and task["deleted"])
        # A live event comes the moment a person saves, so what has been served by now was served before: no clocks to
        # compare. What is only found in an export may be older than our drafts.
        moment = correction.updated_at if event.action == RECONCILED else now()
        shown = [draft for draft in served.get(correction.task_id, ()) if draft["served_at"] <= moment]
        start = old or {
            "draft_text": shown[-1]["text"] if shown else None,
            "draft_version": shown[-1]["version"] if shown else None,
        }
        row = {
            **asdict(correction),
            "texts": list(correction.texts),
            "typed": list(correction.typed),
            "image": task["image"] if task else None,
            "draft_text": start["draft_text"],
            "draft_version": start["draft_version"],
            "usable": correction.usable and not gone,
            "deleted": gone,
            "seq": seq,
            "recorded_at": now(),
        }
        if old is not None and all(old[name] == row[name] for name in ("texts", "usable", "image")):
            row["seq"] = old["seq"]  # saved again with nothing new to learn
        rows.append(row)
    return rows


def _is_another(created_at: datetime | None, known: Mapping[str, Any]) -> bool:
    """Whether what was created then is not what is known under its id: a Label Studio begun anew gives ids out again.

    The known one was created before it was recorded, where nothing more precise was ever told of it.
    """
    return created_at is not None and created_at > (known["created_at"] or known["recorded_at"])


def _deletions(connection: Connection, event: Event, seq: int) -> list[dict[str, Any]]:
    """Tombstones of what the event deletes, of annotations never heard of as well."""
    ids = set(event.deleted_annotations)
    for some in chunks(sorted(event.deleted_tasks)):
        of_tasks = (corrections.c.project_id == event.project_id) & corrections.c.task_id.in_(some)
        ids.update(connection.scalars(sa.select(corrections.c.annotation_id).where(of_tasks)))
    known = _known_corrections(connection, sorted(ids))
    rows = []
    for id_ in sorted(ids):
        old: Mapping[str, Any] = known.get(id_) or {"annotation_id": id_, **_NOTHING, "project_id": event.project_id}
        if not (id_ in known and old["deleted"]):
            rows.append({**old, "usable": False, "deleted": True, "seq": seq, "recorded_at": now()})
    return rows


_NOTHING: dict[str, Any] = {column.name: None for column in corrections.c if column.nullable} | {
    "texts": [],
    "typed": [],
    "was_cancelled": False,
    "ground_truth": False,
}


def _write_revisions(connection: Connection, rows: list[dict[str, Any]], seq: int) -> None:
    newest = {row["annotation_id"]: row for row in rows}
    for some in chunks(list(newest)):
        connection.execute(corrections.delete().where(corrections.c.annotation_id.in_(some)))
    if newest:
        connection.execute(corrections.insert(), list(newest.values()))
        connection.execute(correction_revisions.insert(), [{**row, "event_seq": seq} for row in newest.values()])


def _known_corrections(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for some in chunks(ids):
        query = sa.select(corrections).where(corrections.c.annotation_id.in_(some))
        found.update({row["annotation_id"]: dict(row) for row in connection.execute(query).mappings()})
    return found


def _known_tasks(connection: Connection, project_id: int, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for some in chunks(ids):
        query = sa.select(tasks).where(tasks.c.project_id == project_id, tasks.c.id.in_(some))
        found.update({row["id"]: dict(row) for row in connection.execute(query).mappings()})
    return found
