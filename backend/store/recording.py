"""Writes events: tasks, the newest revision of each correction, the log of all revisions, and tombstones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backend.domain.corrections import Correction, Event, Task
from backend.store.database import chunks, now
from backend.store.drafts.changes import count_changes
from backend.store.keeping.tombstones import is_another, without_forgotten
from backend.store.tables import correction_revisions, corrections, drafts, events, projects, tasks

RECONCILED = "RECONCILED"
"""Action of an event that a comparison read from Label Studio; Label Studio sent none."""

LONGEST_LEAD_SECONDS = 7 * 24 * 3600.0
"""A task may stay open over a weekend; a longer time does not show when it was opened."""

NOTHING_NEW = 0
"""The number of an event that changed nothing; it is not stored."""


@dataclass(frozen=True)
class Changes:
    """Label Studio's ids that an event changed; an annotation that came back after its deletion counts as created."""

    created: tuple[int, ...] = ()
    updated: tuple[int, ...] = ()
    deleted: tuple[int, ...] = ()
    tasks_created: tuple[int, ...] = ()
    tasks_updated: tuple[int, ...] = ()
    tasks_deleted: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return any(asdict(self).values())


@dataclass(frozen=True)
class Receipt:
    """A recorded event: its number, the count of usable corrections it created or changed, and all its changes."""

    seq: int
    new_corrections: int
    job: str | None = None  # the retrain that is queued or running after it
    changes: Changes = field(default_factory=Changes)


def record(connection: Connection, event: Event) -> Receipt:
    """Write the event and all its effects in the transaction of `connection`, which locks the project."""
    event = without_forgotten(connection, event)
    of_tasks = _record_tasks(connection, event)
    revisions, old = _revisions(connection, event)
    deletions = _deletions(connection, event)
    changes = Changes(
        created=tuple(id_ for id_ in revisions if id_ not in old or old[id_]["deleted"]),
        updated=tuple(id_ for id_ in revisions if id_ in old and not old[id_]["deleted"]),
        deleted=tuple(deletions),
        **of_tasks,
    )
    if event.observed_at is not None and not changes:
        return Receipt(NOTHING_NEW, 0)
    result = connection.execute(
        events.insert().values(project_id=event.project_id, action=event.action, body=event.body, received_at=now())
    )
    assert result.inserted_primary_key is not None
    seq = result.inserted_primary_key[0]
    _write_revisions(connection, {**revisions, **deletions}, seq)
    if event.observed_at is None:
        touched = {row["task_id"] for row in (*revisions.values(), *deletions.values())}
        _unsee(connection, event, touched | {task.id for task in event.tasks})
    if event.asks_for_training:
        connection.execute(projects.update().where(projects.c.id == event.project_id).values(training_asked=True))
    return Receipt(seq, sum(row["usable"] and row["seq"] is None for row in revisions.values()), changes=changes)


def drafts_of(
    connection: Connection, project_id: int, task_ids: Sequence[int], *where: sa.ColumnElement[bool]
) -> list[dict[str, Any]]:
    """Rows of drafts served for these tasks, oldest first."""
    mine = drafts.c.project_id == project_id
    return sorted(_rows(connection, drafts.c.task_id, task_ids, mine, *where), key=lambda row: int(row["id"]))


def delete_rows(
    connection: Connection, column: sa.Column[int], ids: Sequence[int], *where: sa.ColumnElement[bool]
) -> None:
    """Delete rows of the column's table where it holds one of the ids."""
    for some in chunks(ids):
        connection.execute(sa.delete(column.table).where(column.in_(some), *where))


def _record_tasks(connection: Connection, event: Event) -> dict[str, tuple[int, ...]]:
    """Write the event's tasks; the ids of those created, changed and deleted, by the names of `Changes`."""
    reported = {task.id: task for task in event.tasks}
    known = _known_tasks(connection, event.project_id, [*reported, *event.deleted_tasks])
    deleted = {id_ for id_ in event.deleted_tasks if id_ not in known or not _newer_than_reading(event, known[id_])}
    rows: list[dict[str, Any]] = []
    changed: dict[str, list[int]] = {"tasks_created": [], "tasks_updated": [], "tasks_deleted": []}
    for task_id in sorted(reported.keys() | deleted):
        task = reported.get(task_id) or Task(task_id, event.project_id, None)
        found = known.get(task_id)
        old = None if found and is_another(task.created_at, found) else found
        seen_alive = event.observed_at is not None and not (found and _newer_than_reading(event, found))
        row = {
            "project_id": event.project_id,
            "id": task_id,
            "image": task.image or (old and old["image"]) or None,
            "created_at": task.created_at or (old and old["created_at"]),
            "deleted": task_id in deleted or bool(old and old["deleted"] and not seen_alive),
            "seen": task.seen if seen_alive else None,
        }
        if found is None or any(found[name] != value for name, value in row.items()):
            rows.append({**row, "recorded_at": now()})
        if row["deleted"]:
            if old is None or not old["deleted"]:
                changed["tasks_deleted"].append(task_id)
        elif old is None or old["deleted"]:
            changed["tasks_created"].append(task_id)
        elif old["image"] != row["image"]:
            changed["tasks_updated"].append(task_id)
    delete_rows(connection, tasks.c.id, [row["id"] for row in rows], tasks.c.project_id == event.project_id)
    if rows:
        connection.execute(tasks.insert(), rows)
    return {name: tuple(ids) for name, ids in changed.items()}


def _unsee(connection: Connection, event: Event, task_ids: set[int]) -> None:
    """Remove the fingerprints of these tasks, so that the next comparison reads them in full again."""
    for some in chunks(sorted(id_ for id_ in task_ids if id_ is not None)):
        mine = (tasks.c.project_id == event.project_id) & tasks.c.id.in_(some)
        connection.execute(tasks.update().where(mine).values(seen=None, recorded_at=now()))


def _revisions(connection: Connection, event: Event) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """Rows of `corrections` that the event creates or changes, and their earlier rows, by annotation id.

    `seq` is None in rows with something new to learn.
    """
    reported: dict[int, Correction] = {}
    for correction in event.corrections:
        other = reported.get(correction.annotation_id)
        if other is None or correction.updated_at >= other.updated_at:
            reported[correction.annotation_id] = correction
    known = {
        id_: row
        for id_, row in _known_corrections(connection, list(reported)).items()
        if not is_another(reported[id_].created_at, row)
    }
    reported = {
        id_: correction
        for id_, correction in reported.items()
        if id_ not in known or _is_news(event, correction, known[id_])
    }
    task_ids = sorted({correction.task_id for correction in reported.values()})
    known_tasks = _known_tasks(connection, event.project_id, task_ids)
    served: dict[int, list[dict[str, Any]]] = {}
    for draft in drafts_of(connection, event.project_id, task_ids):
        served.setdefault(draft["task_id"], []).append(draft)
    rows = {}
    for correction in reported.values():
        old, task = known.get(correction.annotation_id), known_tasks.get(correction.task_id)
        gone = bool(task and task["deleted"])
        image = task["image"] if task else None
        drafted = served.get(correction.task_id, [])
        # A webhook arrives the moment a person saves, so all drafts served by now were served before it, whatever
        # Label Studio's clock says. A correction that is read later may be older than some drafts.
        moment = correction.updated_at if event.action == RECONCILED else now()
        shown = [draft for draft in drafted if draft["version"] == event.shown.get(correction.annotation_id)] or drafted
        start = old if old and old["updated_at"] is not None else _start(shown, moment, correction.lead_time_seconds)
        row = {
            **_content(correction),
            "parent_prediction": correction.parent_prediction or (old and old["parent_prediction"]),
            "image": image,
            "image_sha256": _hash_of(image, drafted, old),
            "draft_text": start["draft_text"],
            "draft_version": start["draft_version"],
            "usable": correction.usable and not gone,
            "deleted": gone,
            "deleted_with_task": gone,
            "forgotten": False,
            "seq": None,
            "recorded_at": now(),
        }
        if old is not None and all(old[name] == row[name] for name in ("texts", "usable", "image")):
            row["seq"] = old["seq"]  # saved again with nothing new to learn
        rows[correction.annotation_id] = row
    return rows, {id_: row for id_, row in known.items() if id_ in rows}


def _is_news(event: Event, correction: Correction, known: Mapping[str, Any]) -> bool:
    """Whether a revision replaces the known one: a newer one does, unless the annotation was deleted.

    A revision read after the last event is the truth. It may undo a deletion (an annotation moved to another task when
    duplicates were removed, or restored from a backup) or change without a new time, as after some bulk actions.
    """
    if event.observed_at is None or _newer_than_reading(event, known):
        return not known["deleted"] and known["updated_at"] < correction.updated_at
    forgotten = {"parent_prediction"} if correction.parent_prediction is None else set()  # with its prediction
    forgotten |= {"created_at"} if correction.created_at is None else set()
    content = _content(correction).items()
    return known["deleted"] or any(known[name] != value for name, value in content if name not in forgotten)


def _newer_than_reading(event: Event, known: Mapping[str, Any]) -> bool:
    """Whether the row was written after the reading began from which the event was made. One that was written in the
    future was written before the clock was set back."""
    return event.observed_at is not None and event.observed_at <= known["recorded_at"] <= now()


def _content(correction: Correction) -> dict[str, Any]:
    lists = {name: list(getattr(correction, name)) for name in ("texts", "typed", "reasons", "hints")}
    return {**asdict(correction), **lists}


def _start(drafted: Sequence[Mapping[str, Any]], saved: datetime, lead_time_seconds: float | None) -> dict[str, Any]:
    """The draft that the annotator saw: the newest one when they opened the task, `lead_time_seconds` before saving.

    Drafts made after that, for a version promoted meanwhile, do not count.
    """
    opened = saved - timedelta(seconds=min(max(lead_time_seconds or 0.0, 0.0), LONGEST_LEAD_SECONDS))
    served = [draft for draft in drafted if draft["served_at"] <= saved]
    shown = [draft for draft in served if draft["served_at"] <= opened] or served[:1]
    return {
        "draft_text": shown[-1]["text"] if shown else None,
        # the words of a copied correction are no version's
        "draft_version": shown[-1]["version"] if shown and shown[-1]["from_task"] is None else None,
    }


def _hash_of(image: str | None, drafted: Sequence[Mapping[str, Any]], old: Mapping[str, Any] | None) -> str | None:
    """The content hash of the image, where a draft or an earlier revision knows it."""
    hashes = [draft["image_sha256"] for draft in drafted if draft["image"] == image and draft["image_sha256"]]
    return hashes[-1] if hashes else old["image_sha256"] if old and old["image"] == image else None


def _deletions(connection: Connection, event: Event) -> dict[int, dict[str, Any]]:
    """Tombstones of the annotations the event deletes, unknown ones too, by annotation id."""
    of_project = corrections.c.project_id == event.project_id

    def annotations(task_ids: Sequence[int]) -> set[int]:
        return {row["annotation_id"] for row in _rows(connection, corrections.c.task_id, task_ids, of_project)}

    with_tasks = annotations(event.deleted_tasks)
    reported = {correction.annotation_id for correction in event.corrections}
    gone = set(event.deleted_annotations) | (annotations(event.whole_tasks) - reported)
    known = _known_corrections(connection, sorted(gone | with_tasks))
    rows = {}
    for id_ in sorted(gone | with_tasks):
        old: Mapping[str, Any] = known.get(id_) or {"annotation_id": id_, **NOTHING, "project_id": event.project_id}
        if id_ in known and (old["deleted"] or _newer_than_reading(event, old)):
            continue
        tombstone = {"usable": False, "deleted": True, "deleted_with_task": id_ not in gone}
        rows[id_] = {**old, **tombstone, "seq": None, "recorded_at": now()}
    return rows


NOTHING: dict[str, Any] = {column.name: None for column in corrections.c if column.nullable} | {
    **{name: [] for name in ("texts", "typed", "reasons", "hints")},
    **dict.fromkeys(("was_cancelled", "ground_truth", "forgotten"), False),
}


def _write_revisions(connection: Connection, rows: Mapping[int, dict[str, Any]], seq: int) -> None:
    numbered = [{**row, "seq": seq if row["seq"] is None else row["seq"]} for row in rows.values()]
    written = count_changes(connection, numbered, _known_corrections(connection, list(rows)))
    delete_rows(connection, corrections.c.annotation_id, list(rows))
    if written:
        connection.execute(corrections.insert(), written)
        connection.execute(correction_revisions.insert(), [{**row, "event_seq": seq} for row in written])


def _known_corrections(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    return {row["annotation_id"]: row for row in _rows(connection, corrections.c.annotation_id, ids)}


def _known_tasks(connection: Connection, project_id: int, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in _rows(connection, tasks.c.id, ids, tasks.c.project_id == project_id)}


def _rows(
    connection: Connection, column: sa.Column[int], ids: Sequence[int], *where: sa.ColumnElement[bool]
) -> list[dict[str, Any]]:
    """Rows of the column's table where it holds one of the ids."""
    found: list[dict[str, Any]] = []
    for some in chunks(ids):
        rows = connection.execute(sa.select(column.table).where(column.in_(some), *where)).mappings()
        found.extend(map(dict, rows))
    return found
