"""What the database holds of one person's captions, or of one image: the traces that `forgetting` removes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backend.domain.corrections import normalise
from backend.store.database import Database, chunks
from backend.store.tables import correction_revisions, corrections, drafts, tasks

PEOPLE = ("completed_by", "updated_by", "created_by", "user", "user_id", "last_created_by", "deleted_by")
"""Keys under which Label Studio names a person in what it sends: by number, or as an object with an `id`."""


@dataclass
class Traces:
    """What one project holds of an annotator, or of an image.

    `captions` are, by image, the captions that nobody else gave of it; `texts` are all that was written. Where there is
    no annotator they are of a whole image: of `images`, by content, and `references`, as tasks name it, nothing stays.
    """

    project_id: int
    annotator: int | None = None
    annotations: set[int] = field(default_factory=set)
    tasks: set[int] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    references: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    captions: dict[str, set[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.annotations or self.tasks)

    @property
    def whole_image(self) -> bool:
        return self.annotator is None

    def is_named_in(self, body: Any) -> bool:
        """Whether what Label Studio sent names the person, an annotation, a task or its image."""
        if isinstance(body, Mapping):
            return self._is_about(body) or any(map(self.is_named_in, body.values()))
        if isinstance(body, list):
            return any(map(self.is_named_in, body))
        return isinstance(body, str) and (body in self.references or normalise(body) in self.texts)

    def _is_about(self, body: Mapping[str, Any]) -> bool:
        if self.annotator is not None and any(self.annotator in _numbers(body.get(key)) for key in PEOPLE):
            return True
        if self.annotator is not None and body.get("id") == self.annotator and "email" in body:
            return True
        if "result" in body and "id" in body:
            return body["id"] in self.annotations or (self.whole_image and body.get("task") in self.tasks)
        return self.whole_image and "data" in body and body.get("id") in self.tasks


def of_annotator(database: Database, annotator: int, project_id: int | None = None) -> list[Traces]:
    """Of every annotation that the annotator has made, whoever changed it later; by project."""
    wanted = [table.c.annotator == annotator for table in (corrections, correction_revisions)]
    with database.reading() as connection:
        return [
            _traces(connection, Traces(project, annotator=annotator, annotations=ids))
            for project, ids in _annotations(connection, project_id, wanted)
        ]


def of_image(database: Database, sha256: str) -> list[Traces]:
    """Of every task that shows the image, whoever captioned it; by project."""
    with database.reading() as connection:
        by_project: dict[int, set[int]] = defaultdict(set)
        for table in (drafts, corrections, correction_revisions):
            query = sa.select(table.c.project_id, table.c.task_id).where(table.c.image_sha256 == sha256)
            for project, task in connection.execute(query.distinct()):
                by_project[project].add(task)
        return [_of_tasks(connection, project, ids, {sha256}) for project, ids in sorted(by_project.items())]


def of_task(database: Database, project_id: int, task_id: int) -> list[Traces]:
    """Of the image that the task shows, in every task that shows it."""
    hashes: set[str] = set()
    with database.reading() as connection:
        for table in (drafts, corrections, correction_revisions):
            mine = table.c.project_id == project_id, table.c.task_id == task_id, table.c.image_sha256.is_not(None)
            hashes |= set(connection.scalars(sa.select(table.c.image_sha256).where(*mine)))
        known = sa.select(tasks.c.id).where(tasks.c.project_id == project_id, tasks.c.id == task_id)
        if not hashes:
            there = connection.execute(known.where(~tasks.c.forgotten)).first()
            return [_of_tasks(connection, project_id, {task_id}, set())] if there else []
    return [each for sha256 in sorted(hashes) for each in of_image(database, sha256)]


def _of_tasks(connection: Connection, project_id: int, ids: set[int], hashes: set[str]) -> Traces:
    found = Traces(project_id, tasks={each for each in ids if each is not None}, images=hashes)
    for table in (corrections, correction_revisions):
        found.annotations |= set(_values(connection, table.c.annotation_id, table.c.task_id, project_id, found.tasks))
    for column, key in ((tasks.c.image, tasks.c.id), (drafts.c.image, drafts.c.task_id)):
        found.references |= set(filter(None, _values(connection, column, key, project_id, found.tasks)))
    return _traces(connection, found)


def _annotations(
    connection: Connection, project_id: int | None, wanted: Iterable[sa.ColumnElement[bool]]
) -> list[tuple[int, set[int]]]:
    by_project: dict[int, set[int]] = defaultdict(set)
    for table, where in zip((corrections, correction_revisions), wanted, strict=True):
        query = sa.select(table.c.project_id, table.c.annotation_id).where(where).distinct()
        if project_id is not None:
            query = query.where(table.c.project_id == project_id)
        for project, id_ in connection.execute(query):
            by_project[project].add(id_)
    return sorted(by_project.items())


def _traces(connection: Connection, found: Traces) -> Traces:
    """With what was written in the annotations, and which captions others gave of the same images."""
    table = correction_revisions
    own: dict[str, set[str]] = defaultdict(set)
    for row in _rows(connection, table.c.annotation_id, found.project_id, found.annotations):
        said = {text for name in ("texts", "typed", "hints") for text in row[name]}
        found.texts |= {form for text in said for form in (text, normalise(text)) if form}
        if row["task_id"] is not None and not found.whole_image:
            found.tasks.add(row["task_id"])
        if row["image_sha256"]:
            own[row["image_sha256"]] |= {normalise(text) for text in row["texts"]}
    others: dict[str, set[str]] = defaultdict(set)
    for row in _rows(connection, table.c.image_sha256, found.project_id, own):
        if row["annotation_id"] not in found.annotations:
            others[row["image_sha256"]] |= {normalise(text) for text in row["texts"]}
    found.captions = {sha256: texts - others[sha256] for sha256, texts in own.items()}
    return found


def _rows(
    connection: Connection, column: sa.Column[Any], project_id: int, values: Iterable[Any]
) -> Iterator[dict[str, Any]]:
    for some in chunks(sorted(values)):
        mine = column.table.c.project_id == project_id, column.in_(some)
        yield from map(dict, connection.execute(sa.select(column.table).where(*mine)).mappings())


def _values(
    connection: Connection, column: sa.Column[Any], key: sa.Column[Any], project_id: int, values: Iterable[Any]
) -> Iterator[Any]:
    for some in chunks(sorted(values)):
        yield from connection.scalars(sa.select(column).where(column.table.c.project_id == project_id, key.in_(some)))


def _numbers(value: Any) -> set[Any]:
    """The numbers of people that a value of one of PEOPLE names."""
    if isinstance(value, list):
        return {number for each in value for number in _numbers(each)}
    if isinstance(value, Mapping):
        return {value.get("id"), value.get("user_id")}
    return {value} if isinstance(value, int) else set()
