"""The store: projects, tasks, served drafts, corrections, and every event as Label Studio sent it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from backend.domain.corrections import Correction, Draft, DraftFailure, Event, Task
from backend.store.database import chunks, now
from backend.store.drafts.calibrations import Calibrations
from backend.store.drafts.changes import ChangesReader
from backend.store.drafts.chunks import Chunks
from backend.store.drafts.outcomes import Outcomes
from backend.store.drafts.reuse import Reuse, draft_of, draft_row, row_key
from backend.store.drafts.selections import Selections
from backend.store.places import Places
from backend.store.reconciliations import Reconciliations
from backend.store.recording import Receipt, delete_rows, drafts_of, record
from backend.store.retrains import Retrains, new_corrections
from backend.store.tables import correction_revisions, corrections, draft_failures, drafts, projects, tasks
from backend.store.totals import TotalsReader


@dataclass(frozen=True)
class Project:
    """A Label Studio project as its last /setup described it; None where there was none yet.

    `training_asked`: a person asked for a retrain and none has begun since. `reused_seq`: the event up to which the
    drafts of waiting tasks follow the corrections.
    """

    id: int
    label_config: str | None
    hostname: str | None
    access_token: str | None
    training_asked: bool
    updated_at: datetime
    reused_seq: int


@dataclass(frozen=True)
class StoredCorrection(Correction):
    """A correction with its image and the draft it started from, where one had been served.

    `seq` is the event that last changed what can be learnt from it. `image_sha256` hashes the image's bytes; it is None
    until the image was fetched.
    """

    image: str | None = None
    draft_text: str | None = None
    draft_version: str | None = None
    seq: int = 0
    image_sha256: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether it repeats the model's draft: an annotator accepted it unchanged, or a bulk action did."""
        if self.origin is not None:
            return self.origin == "prediction"
        return self.parent_prediction is not None or self.texts == (self.draft_text,)

    @property
    def drafted(self) -> bool:
        """Whether a draft with words was shown; where none was recorded, Label Studio says whether there was one."""
        if self.draft_text is not None:
            return bool(self.draft_text)
        return self.parent_prediction is not None or self.origin in {"prediction", "prediction-changed"}

    def weight(self, of_accepted: float) -> float:
        """Its weight in training: 1 for a caption a person wrote, `of_accepted` for an accepted draft."""
        return of_accepted if self.accepted else 1.0


@dataclass(frozen=True)
class Revision(StoredCorrection):
    """One revision of a correction; `newest` is the present one, unless it was `deleted`."""

    deleted: bool = False
    newest: bool = False


@dataclass(frozen=True)
class Counts:
    """Counts of a project; `new` usable corrections came after the last retrain that succeeded."""

    tasks: int
    drafts: int
    failures: int
    corrections: int
    skipped: int
    new: int


class Store(
    Retrains, Reconciliations, Chunks, Selections, Reuse, Places, Outcomes, Calibrations, ChangesReader, TotalsReader
):
    """All reads and writes. A write is committed when its method returns; any thread or process may write."""

    def save_project(
        self, project_id: int, label_config: str, hostname: str | None = None, access_token: str | None = None
    ) -> None:
        """Store the body of /setup; nothing is written where nothing changed, as Label Studio sends it often."""
        values = {"label_config": label_config, "hostname": hostname, "access_token": access_token}
        known = self.get_project(project_id)
        if known is not None and all(getattr(known, name) == value for name, value in values.items()):
            return
        with self.writing(project_id) as connection:
            mine = projects.c.id == project_id
            connection.execute(projects.update().where(mine).values(**values, updated_at=now()))

    def get_project(self, project_id: int) -> Project | None:
        with self.reading() as connection:
            row = connection.execute(sa.select(projects).where(projects.c.id == project_id)).first()
        return None if row is None or project_id == 0 else Project(**row._mapping)

    def label_config(self, project_id: int) -> str | None:
        """The project's labelling config as its last /setup had it."""
        project = self.get_project(project_id)
        return project.label_config if project else None

    def projects(self) -> list[Project]:
        """Every known project, by id. Row 0 is no project; it is the lock for changes of the default champion."""
        with self.reading() as connection:
            rows = connection.execute(sa.select(projects).where(projects.c.id != 0).order_by(projects.c.id)).all()
        return [Project(**row._mapping) for row in rows]

    def record(self, event: Event) -> Receipt:
        """Commit the event and all its effects, or nothing. Late and repeated events change nothing.

        A revision that is not newer than the known one is ignored, and nothing undoes a deletion, even one of something
        unknown.
        """
        with self.writing(event.project_id, durable=event.observed_at is None) as connection:
            return record(connection, event)

    def get_task(self, project_id: int, task_id: int) -> Task | None:
        """The task, if it is known and not deleted."""
        query = sa.select(tasks).where(tasks.c.project_id == project_id, tasks.c.id == task_id, ~tasks.c.deleted)
        with self.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Task(row.id, row.project_id, row.image)

    def corrections(
        self, project_id: int, up_to_seq: int | None = None, usable: bool = True, of_deleted_tasks: bool = False
    ) -> list[StoredCorrection]:
        """Corrections not deleted, by annotation id: the newest revision of each, or what it was as of an event.

        With `usable`, only those that may be trained on; with `of_deleted_tasks`, also those that were deleted only
        because their task was.
        """
        table: sa.Table = corrections
        newest_of: list[sa.ColumnElement[bool]] = []
        if up_to_seq is not None:
            table = correction_revisions
            newest = sa.select(sa.func.max(table.c.id)).where(
                table.c.project_id == project_id, table.c.event_seq <= up_to_seq
            )
            newest_of = [table.c.id.in_(newest.group_by(table.c.annotation_id))]
        wanted = ~table.c.deleted & (table.c.usable if usable else sa.true())
        if of_deleted_tasks:
            wanted |= table.c.deleted_with_task & (~table.c.was_cancelled if usable else sa.true())
        where = [table.c.project_id == project_id, *newest_of, wanted]
        query = _with_images(table).where(*where)
        with self.reading() as connection:
            rows = connection.execute(query.order_by(table.c.annotation_id)).mappings().all()
        found = [_stored_correction(dict(row)) for row in rows]
        return [each for each in found if each.usable] if usable else found

    def latest_corrections(
        self, project_id: int, limit: int, up_to_seq: int | None = None, version: str | None = None
    ) -> list[StoredCorrection]:
        """The usable corrections that changed last, or had by an event, the newest first; of drafts by a version."""
        table = corrections.c
        mine = [table.project_id == project_id, table.usable]
        if up_to_seq is not None:
            mine.append(table.seq <= up_to_seq)
        if version is not None:
            mine.append(table.draft_version == version)
        # By seq alone, so that an index gives the order: one event may have thousands of corrections.
        newest = _with_images(corrections).where(*mine).order_by(table.seq.desc()).limit(limit)
        with self.reading() as connection:
            found = [_stored_correction(dict(row)) for row in connection.execute(newest).mappings()]
        return sorted(found, key=lambda each: (each.seq, each.annotation_id), reverse=True)

    def changed_corrections(self, project_id: int, after_seq: int) -> list[Revision]:
        """The newest revision of each annotation that events after that one changed; skipped and deleted ones too."""
        log = correction_revisions.c
        changed = sa.select(log.annotation_id).where(log.project_id == project_id, log.event_seq > after_seq)
        with self.reading() as connection:
            ids = sorted(set(connection.scalars(changed)))  # apart, or SQLite would read all of the project
            queries = [_with_images(corrections).where(corrections.c.annotation_id.in_(some)) for some in chunks(ids)]
            ordered = [query.order_by(corrections.c.annotation_id) for query in queries]
            rows = [dict(row) for query in ordered for row in connection.execute(query).mappings()]
        mine = [row for row in rows if row["project_id"] == project_id]
        return [Revision(**vars(_stored_correction(row)), deleted=row["deleted"], newest=True) for row in mine]

    def revisions(self, project_id: int) -> list[Revision]:
        """Every revision of its annotations, by annotation id, oldest first; skipped and deleted ones too."""
        table = correction_revisions
        query = _with_images(table).where(table.c.project_id == project_id)
        query = query.order_by(table.c.annotation_id, table.c.id)
        with self.reading() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        newest = {row["annotation_id"]: row["id"] for row in rows}
        return [
            Revision(
                **vars(_stored_correction(row)),
                deleted=row["deleted"],
                newest=row["id"] == newest[row["annotation_id"]],
            )
            for row in rows
            if row["updated_at"] is not None  # or it was deleted before it was known
        ]

    def add_image_hashes(self, project_id: int, hashes: Mapping[str, str]) -> None:
        """Set the SHA-256 of images, by reference, on the project's corrections that lack it."""
        if not hashes:
            return
        for table in (corrections, correction_revisions):
            [key], unknown = table.primary_key.columns, table.c.image_sha256.is_(None)
            with self.reading() as connection:
                query = sa.select(key, table.c.image).where(table.c.project_id == project_id, unknown)
                rows = connection.execute(query).all()
            found = [{"of": of, "shown": image, "sha256": hashes[image]} for of, image in rows if image in hashes]
            one = table.update().where(key == sa.bindparam("of"), table.c.image == sa.bindparam("shown"), unknown)
            for some in chunks(found):  # so that no webhook waits for all
                with self.writing(project_id, durable=False) as connection:
                    connection.execute(one.values(image_sha256=sa.bindparam("sha256")), some)

    def add_drafts(self, project_id: int, served: Sequence[Draft]) -> None:
        """Record versions' own drafts of the project; the first one for a task, version and image stays."""
        if not served:
            return
        with self.writing(project_id, durable=False) as connection:
            ids = [draft.task_id for draft in served]
            known = {row_key(row) for row in drafts_of(connection, project_id, ids)}
            rows: dict[tuple[int, str, str], dict[str, Any]] = {}
            for row in map(draft_row, served):
                if row_key(row) not in known:
                    rows.setdefault(row_key(row), row)
            if rows:
                connection.execute(drafts.insert(), list(rows.values()))
            delete_rows(connection, draft_failures.c.task_id, ids, draft_failures.c.project_id == project_id)

    def get_drafts(self, project_id: int, task_ids: Sequence[int], version: str) -> list[Draft]:
        """Drafts the version has given these tasks, oldest first; a task may have several of different images, and of
        one image where a correction was copied."""
        with self.reading() as connection:
            rows = drafts_of(connection, project_id, task_ids, drafts.c.version == version)
        return [draft_of(row) for row in rows]

    def add_failures(self, project_id: int, failures: Sequence[DraftFailure]) -> None:
        """Store why these tasks got no draft, replacing earlier reasons; the last one for a task stays."""
        if not failures:
            return
        rows = {failure.task_id: {**asdict(failure), "failed_at": now()} for failure in failures}
        with self.writing(project_id, durable=False) as connection:
            delete_rows(connection, draft_failures.c.task_id, list(rows), draft_failures.c.project_id == project_id)
            connection.execute(draft_failures.insert(), list(rows.values()))

    def failures(self, project_id: int, limit: int = 20) -> list[DraftFailure]:
        """Tasks without a draft and why, newest first."""
        query = sa.select(draft_failures).where(draft_failures.c.project_id == project_id)
        newest = query.order_by(draft_failures.c.failed_at.desc(), draft_failures.c.task_id).limit(limit)
        with self.reading() as connection:
            return [DraftFailure(row.project_id, row.task_id, row.reason) for row in connection.execute(newest)]

    def counts(self, project_id: int) -> Counts:
        changes = self.draft_changes(project_id)
        with self.reading() as connection:

            def count(table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
                query = sa.select(sa.func.count()).select_from(table).where(table.c.project_id == project_id, *where)
                return connection.scalar(query) or 0

            return Counts(
                tasks=count(tasks, ~tasks.c.deleted),
                drafts=count(drafts),
                failures=count(draft_failures),
                corrections=sum(each.corrections for each in changes),
                skipped=sum(each.skipped for each in changes),
                new=new_corrections(connection, project_id),
            )


def _with_images(table: sa.Table) -> sa.Select[Any]:
    """Rows of corrections, each with the image it was made for as `task_image`."""
    task = (tasks.c.project_id == table.c.project_id) & (tasks.c.id == table.c.task_id)
    image = sa.func.coalesce(table.c.image, tasks.c.image).label("task_image")
    return sa.select(table, image).join_from(table, tasks, task, isouter=True)


def _stored_correction(row: Mapping[str, Any]) -> StoredCorrection:
    values = {name: row[name] for name in StoredCorrection.__dataclass_fields__}
    lists = {name: tuple(row[name]) for name in ("texts", "typed", "reasons", "hints")}
    return StoredCorrection(**{**values, **lists, "image": row["task_image"]})
