"""What reusing corrections needs: which corrections changed, features of images, and which drafts were copied."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from backend.domain.corrections import Draft
from backend.store.database import Database, chunks, now
from backend.store.recording import drafts_of
from backend.store.tables import correction_revisions, corrections, drafts, features, projects, tasks

AT_ONCE = 5000
"""Features that are read together: 14 MB of the starter's."""


class Reuse(Database):
    """The part of the store for corrections that become drafts of other tasks."""

    def revision(self, project_id: int) -> int:
        """The event that last changed a correction of the project, 0 for none."""
        mine = correction_revisions.c.project_id == project_id
        with self.reading() as connection:
            return connection.scalar(sa.select(sa.func.max(correction_revisions.c.event_seq)).where(mine)) or 0

    def add_features(self, project_id: int, encoder: str, found: Mapping[str, bytes]) -> None:
        """Store pooled features of an encoder by the hashes of their images; those that are known stay."""
        if not found:
            return
        with self.writing(project_id, durable=False) as connection:
            known = self._features(connection, project_id, encoder, list(found), features.c.image_sha256)
            new = found.keys() - {row.image_sha256 for row in known}
            if new:
                common = {"project_id": project_id, "encoder": encoder}
                rows = [{**common, "image_sha256": sha256, "feature": found[sha256]} for sha256 in sorted(new)]
                connection.execute(features.insert(), rows)

    def features(self, project_id: int, encoder: str, hashes: Sequence[str]) -> dict[str, bytes]:
        """The features of these images by their hashes, where they are known."""
        with self.reading() as connection:
            found = self._features(connection, project_id, encoder, hashes, features.c.image_sha256, features.c.feature)
            return {row.image_sha256: row.feature for row in found}

    def new_features(self, project_id: int, encoder: str, after: int) -> tuple[int, dict[str, bytes]]:
        """The first AT_ONCE features that were added after that number, and the number of the newest of them."""
        mine = features.c.project_id == project_id, features.c.encoder == encoder, features.c.id > after
        query = sa.select(features).where(*mine).order_by(features.c.id).limit(AT_ONCE)
        with self.reading() as connection:
            rows = connection.execute(query).all()
        return max((row.id for row in rows), default=after), {row.image_sha256: row.feature for row in rows}

    def show_instead(self, project_id: int, shown: Sequence[Draft]) -> None:
        """Record that these drafts are shown from now on, where another one was shown last."""
        with self.writing(project_id, durable=False) as connection:
            last = {row_key(row): row for row in drafts_of(connection, project_id, [each.task_id for each in shown])}
            rows = {row_key(row): row for row in map(draft_row, shown)}
            other = [row for key, row in rows.items() if key not in last or _differ(last[key], row)]
            if other:
                connection.execute(drafts.insert(), other)

    def tasks_with(self, project_id: int, hashes: Collection[str], copied_from: Collection[int]) -> set[int]:
        """Tasks with a draft of one of these images, or with one that was copied from one of those tasks."""
        found = set[int]()
        with self.reading() as connection:
            for column, values in ((drafts.c.image_sha256, hashes), (drafts.c.from_task, copied_from)):
                for some in chunks(sorted(values)):
                    mine = drafts.c.project_id == project_id, column.in_(some)
                    found.update(connection.scalars(sa.select(drafts.c.task_id).where(*mine)))
        return found

    def waiting_drafts(self, project_id: int, version: str, of: Collection[int] | None = None) -> list[Draft]:
        """Drafts by the version, oldest first, of tasks that nobody has annotated or skipped, of known images; of all
        such tasks, or of these."""
        of_task = corrections.c.project_id == drafts.c.project_id, corrections.c.task_id == drafts.c.task_id
        annotated = sa.exists().where(*of_task, ~corrections.c.deleted)
        deleted = sa.exists().where(
            tasks.c.project_id == drafts.c.project_id, tasks.c.id == drafts.c.task_id, tasks.c.deleted
        )
        mine = drafts.c.project_id == project_id, drafts.c.version == version
        query = sa.select(drafts).where(*mine, ~annotated, ~deleted)
        queries = [query] if of is None else [query.where(drafts.c.task_id.in_(some)) for some in chunks(sorted(of))]
        with self.reading() as connection:
            rows = [row for each in queries for row in connection.execute(each).mappings()]
        known = [row for row in rows if row["image_sha256"]]  # SQLite, if asked, reads the project for each chunk
        return [draft_of(row) for row in sorted(known, key=lambda row: int(row["id"]))]

    def corrected_images(self) -> set[str]:
        """Hashes of all images with a correction that is not deleted, as far as they are known."""
        of_task = corrections.c.project_id == drafts.c.project_id, corrections.c.task_id == drafts.c.task_id
        drafted = sa.select(drafts.c.image_sha256).join(corrections, sa.and_(*of_task)).where(~corrections.c.deleted)
        fetched = sa.select(corrections.c.image_sha256).where(~corrections.c.deleted)
        with self.reading() as connection:
            return {sha256 for sha256 in connection.scalars(sa.union(drafted, fetched)) if sha256}

    def reused_seq(self, project_id: int) -> int:
        """The event up to which the waiting drafts follow the corrections."""
        with self.reading() as connection:
            return connection.scalar(sa.select(projects.c.reused_seq).where(projects.c.id == project_id)) or 0

    def save_reused_seq(self, project_id: int, seq: int) -> None:
        with self.writing(project_id, durable=False) as connection:
            connection.execute(projects.update().where(projects.c.id == project_id).values(reused_seq=seq))

    def _features(
        self, connection: sa.Connection, project_id: int, encoder: str, hashes: Sequence[str], *columns: Any
    ) -> Iterator[Any]:
        for some in chunks(hashes):
            mine = features.c.project_id == project_id, features.c.encoder == encoder
            yield from connection.execute(sa.select(*columns).where(*mine, features.c.image_sha256.in_(some)))


def draft_row(draft: Draft) -> dict[str, Any]:
    """The row of a draft that is shown from now on."""
    image_key = hashlib.sha256(draft.image.encode("utf-8", "surrogatepass")).hexdigest()
    return {**asdict(draft), "image_key": image_key, "served_at": now()}


def draft_of(row: Any) -> Draft:
    return Draft(*(row[name] for name in Draft.__dataclass_fields__))


def row_key(draft: Mapping[str, Any]) -> tuple[int, str, str]:
    """What a version drafts once: a task with an image."""
    return draft["task_id"], draft["version"], draft["image_key"]


def _differ(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(row[name] != other[name] for name in ("text", "from_task"))
