"""Comparisons of projects with Label Studio as rows: when the last ones were, their cost and their repairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from backend.store.database import Database, chunks, now
from backend.store.tables import corrections, reconciliations, tasks


@dataclass(frozen=True)
class ReconciliationState:
    """The last comparisons of a project with Label Studio.

    `compared_at` is when the last comparison began, `completed_at` when the last one of all tasks did; `completed_*`
    are its size and cost. `repairs` counts the last one's missed changes by kind, `repaired` those of all. A
    failure stays until a comparison succeeds. `unreadable` are tasks that could not be read and were left out.
    """

    project_id: int
    compared_at: datetime | None = None
    completed_at: datetime | None = None
    completed_tasks: int = 0
    completed_requests: int = 0
    completed_seconds: float = 0.0
    repairs: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    failed_at: datetime | None = None
    failure: str | None = None
    unreadable: list[int] = field(default_factory=list)


class Reconciliations(Database):
    """The part of the store that knows what must be read from Label Studio again."""

    def reconciliation_state(self, project_id: int) -> ReconciliationState:
        """The project's state; one with only its id where it was never compared."""
        query = sa.select(reconciliations).where(reconciliations.c.project_id == project_id)
        with self.reading() as connection:
            row = connection.execute(query).first()
        return ReconciliationState(**row._mapping) if row else ReconciliationState(project_id)

    def save_reconciliation(self, state: ReconciliationState) -> None:
        """Replace the stored state; of two comparisons at once the later one stays."""
        with self.writing(state.project_id, durable=False) as connection:
            mine = reconciliations.c.project_id == state.project_id
            connection.execute(reconciliations.delete().where(mine))
            connection.execute(reconciliations.insert().values(**vars(state)))

    def save_failure(self, project_id: int, failure: str) -> None:
        """Store why the project could not be compared."""
        values = {"failed_at": now(), "failure": failure}
        with self.writing(project_id, durable=False) as connection:
            mine = reconciliations.c.project_id == project_id
            if not connection.execute(reconciliations.update().where(mine).values(**values)).rowcount:
                connection.execute(reconciliations.insert().values(**vars(ReconciliationState(project_id)) | values))

    def fingerprints_of(self, project_id: int, task_ids: Sequence[int]) -> dict[int, str | None]:
        """The same of these tasks, where the project has them."""
        mine, found = (tasks.c.project_id == project_id, ~tasks.c.deleted), dict[int, str | None]()
        with self.reading() as connection:
            for some in chunks(task_ids):
                query = sa.select(tasks.c.id, tasks.c.seen).where(*mine, tasks.c.id.in_(some))
                found |= {row.id: row.seen for row in connection.execute(query)}
        return found

    def fingerprints(self, project_id: int) -> dict[int, str | None]:
        """Fingerprints by task id of all tasks not known to be deleted, as they were when last read in full.

        None where a task was never read, is known by its annotations only, or an event about it came since.
        """
        of_tasks = sa.select(tasks.c.id, tasks.c.seen).where(tasks.c.project_id == project_id, ~tasks.c.deleted)
        of_annotations = sa.select(corrections.c.task_id).where(
            corrections.c.project_id == project_id, ~corrections.c.deleted
        )
        with self.reading() as connection:
            found: dict[int, str | None] = dict.fromkeys(connection.scalars(of_annotations.distinct()))
            found.update((row.id, row.seen) for row in connection.execute(of_tasks))
        return found
