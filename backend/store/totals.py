"""Figures of projects that are read often: none takes longer the more corrections there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from backend.store.database import Database
from backend.store.keeping.paths import located
from backend.store.retrains import new_corrections
from backend.store.tables import correction_revisions, model_versions, projects, reconciliations, retrains

MOST_WAITING = 10_000
"""Corrections that wait for a retrain are counted up to here."""
NO_VERDICT = "none"


@dataclass(frozen=True)
class Totals:
    """Of one project.

    `waiting` usable corrections came after the last retrain that succeeded. `behind_since` is when the oldest
    correction came that the drafts of waiting tasks do not follow yet. `repaired` counts what comparisons with Label
    Studio took in; `compared_at` is when the last one that succeeded began.
    """

    project_id: int
    waiting: int
    behind_since: datetime | None
    repaired: int
    compared_at: datetime | None
    comparison_fails: bool
    retrains: Mapping[str, int]
    verdicts: Mapping[str, int]


class TotalsReader(Database):
    """The part of the store that counts."""

    def totals(self, project_id: int | None = None) -> list[Totals]:
        """The figures of every project, by id, or of one; none where it is unknown."""
        wanted = projects.c.id != 0 if project_id is None else projects.c.id == project_id
        with self.reading() as connection:
            states = _counts(connection, retrains.c.project_id, retrains.c.state, project_id)
            decision = sa.func.coalesce(model_versions.c.decision, NO_VERDICT)
            verdicts = _counts(connection, model_versions.c.project_id, decision, project_id)
            of = sa.true() if project_id is None else reconciliations.c.project_id == project_id
            compared = {row.project_id: row for row in connection.execute(sa.select(reconciliations).where(of))}
            found = []
            for id_, reused_seq in connection.execute(
                sa.select(projects.c.id, projects.c.reused_seq)
                .where(projects.c.id != 0, wanted)
                .order_by(projects.c.id)
            ):
                comparison = compared.get(id_)
                found.append(
                    Totals(
                        project_id=id_,
                        waiting=new_corrections(connection, id_, most=MOST_WAITING),
                        behind_since=_first_after(connection, id_, reused_seq),
                        repaired=comparison.repaired if comparison else 0,
                        compared_at=comparison.compared_at if comparison else None,
                        comparison_fails=bool(comparison and comparison.failed_at),
                        retrains=states.get(id_, {}),
                        verdicts=verdicts.get(id_, {}),
                    )
                )
        return found

    def version_names(self, project_id: int | None = None) -> list[str]:
        """Names of all versions, or of those that may serve the project, the newest first."""
        found = model_versions.c
        query = sa.select(found.name).order_by(found.created_at.desc(), found.name)
        if project_id is not None:
            query = query.where((found.project_id == project_id) | found.project_id.is_(None))
        with self.reading() as connection:
            return list(connection.scalars(query))

    def version_parents(self, project_id: int) -> dict[str, str | None]:
        """The parent of each version that may serve the project, the newest first."""
        found = model_versions.c
        mine = (found.project_id == project_id) | found.project_id.is_(None)
        query = sa.select(found.name, found.parent).where(mine).order_by(found.created_at.desc(), found.name)
        with self.reading() as connection:
            return {row.name: row.parent for row in connection.execute(query)}

    def manifests_in(self, project_id: int, *states: str) -> list[Path]:
        """The manifests of the project's versions in these states, where they have one."""
        found = model_versions.c
        mine = found.project_id == project_id, found.state.in_(states), found.manifest.is_not(None)
        with self.reading() as connection:
            paths = connection.scalars(sa.select(found.manifest).where(*mine))
            return [path for each in paths if (path := located(each, self.data_dir))]


def newest_versions(project_id: int, limit: int, *where: sa.ColumnElement[bool]) -> sa.CompoundSelect[Any]:
    """Names of the newest versions that may serve the project, up to twice the limit: its own, and those of all.

    An index has the order of one owner's, so that the verdicts of older ones are not read.
    """
    found = model_versions.c
    some = [
        sa.select(found.name).where(owner, *where).order_by(found.created_at.desc(), found.name).limit(limit).subquery()
        for owner in (found.project_id == project_id, found.project_id.is_(None))
    ]
    return sa.union_all(*(sa.select(each.c.name) for each in some))


def _counts(
    connection: sa.Connection, project: sa.ColumnElement[int], kind: sa.ColumnElement[str], of: int | None
) -> dict[int, dict[str, int]]:
    """How many rows of each project, or of one, are of each kind."""
    query = sa.select(project.label("project"), kind.label("kind"), sa.func.count().label("number"))
    if of is not None:
        query = query.where(project == of)
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(query.group_by(sa.literal_column("project"), sa.literal_column("kind"))):
        found.setdefault(row.project or 0, {})[row.kind] = row.number
    return found


def _first_after(connection: sa.Connection, project_id: int, seq: int) -> datetime | None:
    """When the project's first change of a correction after that event was recorded."""
    log = correction_revisions.c
    query = sa.select(log.recorded_at).where(log.project_id == project_id, log.event_seq > seq)
    return connection.scalar(query.order_by(log.event_seq).limit(1))
