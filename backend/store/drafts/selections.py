"""Selections: which waiting tasks annotators are given first. SQL knows a selection before Label Studio does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from backend.domain.selections import name_of, number_of
from backend.store.database import Database, chunks, now
from backend.store.drafts.refreshes import OPEN_SECONDS, RETRY_SECONDS
from backend.store.lease import has_come
from backend.store.tables import corrections, selected_tasks, selections, tasks

WANTED, CHOSEN, SHOWN, ENDED, GONE = "wanted", "chosen", "shown", "ended", "gone"
OPEN = (WANTED, CHOSEN)
"""States in which a job goes on with it."""


@dataclass(frozen=True)
class Order:
    """What a person orders: the `count` tasks that teach most by a `strategy`; with `after_promotions` as many anew
    after each promotion. `seed` is that of what is drawn at random."""

    strategy: str
    count: int
    seed: int = 0
    after_promotions: bool = False


@dataclass(frozen=True)
class Selection:
    """An order and how far it is.

    WANTED: none is chosen yet, because drafts are missing or no worker is free. CHOSEN: SQL has the tasks, which have
    drafts by `version`. SHOWN: Label Studio serves them first. ENDED: it does no more, and the predictions stay until
    nobody may have them open. GONE: they are deleted. `sampling_before` is how the project ordered its tasks before,
    `reason` why a job ended it. Nothing is done before `due_at`.
    """

    id: int
    project_id: int
    number: int
    strategy: str
    count: int
    seed: int
    after_promotions: bool
    state: str
    version: str | None
    sampling_before: str | None
    ordered_at: datetime
    due_at: datetime
    reason: str | None

    @property
    def name(self) -> str:
        """What its predictions are stored under."""
        return name_of(self.version or "", self.number)

    @property
    def is_due(self) -> bool:
        """Whether something may be done."""
        return has_come(self.due_at, now(), OPEN_SECONDS)


class Chosen(NamedTuple):
    """A task that was selected; `is_control`: at random, whatever the strategy."""

    task_id: int
    is_control: bool


class Ranked(NamedTuple):
    """A selected task at its place in the order, from 1."""

    task_id: int
    rank: int


class Progress(NamedTuple):
    """Of the selected `tasks`, `controls` were drawn at random, Label Studio has `stored`, nobody has labelled or
    skipped `waiting`, and so many `annotators` have labelled the others, the last time at `labelled_at`."""

    tasks: int
    controls: int
    stored: int
    waiting: int
    annotators: int
    labelled_at: datetime | None = None


class Selections(Database):
    """The part of the store that knows what was selected."""

    def order_selection(self, project_id: int, order: Order) -> Selection:
        """Store that a person wants one; an earlier one that is not shown yet is given up."""
        with self.writing(project_id) as connection:
            mine = selections.c.project_id == project_id
            last = connection.scalar(sa.select(sa.func.max(selections.c.number)).where(mine)) or 0
            _end(connection, mine & selections.c.state.in_(OPEN), None)
            values = {"project_id": project_id, "number": last + 1, "state": WANTED, **asdict(order)}
            connection.execute(selections.insert().values(**values, ordered_at=now(), due_at=now()))
            return _found(connection, mine)[-1]

    def renew_selection(self, selection: Selection) -> Selection:
        """Order it once more, among drafts by another version."""
        order = Order(selection.strategy, selection.count, selection.seed + 1, selection.after_promotions)
        return self.order_selection(selection.project_id, order)

    def selections(self, project_id: int, *states: str) -> list[Selection]:
        """Those of the project in one of these states, oldest first; without states all."""
        mine = selections.c.project_id == project_id
        with self.reading() as connection:
            return _found(connection, mine & selections.c.state.in_(states) if states else mine)

    def selection_named(self, project_id: int, name: str | None) -> Selection | None:
        """The selection whose predictions have this name."""
        number = number_of(name or "")
        mine = (selections.c.project_id == project_id) & (selections.c.number == number)
        with self.reading() as connection:
            return next((each for each in _found(connection, mine) if each.name == name), None)

    def selection_is_due(self, project_id: int) -> bool:
        """Whether there is something for a job to do: a selection to make, or the predictions of an ended one to
        delete."""
        return any(each.is_due for each in self.selections(project_id, *OPEN, ENDED))

    def postpone_selection(self, project_id: int) -> None:
        """Let nothing be done for RETRY_SECONDS for those that are due."""
        due_at = now() + timedelta(seconds=RETRY_SECONDS)
        with self.writing(project_id, durable=False) as connection:
            mine = (selections.c.project_id == project_id) & selections.c.state.in_((*OPEN, ENDED))
            due = [each.id for each in _found(connection, mine) if each.is_due]
            connection.execute(selections.update().where(selections.c.id.in_(due)).values(due_at=due_at))

    def save_choice(
        self, selection: Selection, version: str, sampling_before: str | None, chosen: Sequence[Chosen]
    ) -> Selection | None:
        """Store which tasks were chosen, in their order; None, and nothing is written, where it was given up."""
        with self.writing(selection.project_id) as connection:
            changes: dict[str, Any] = {"state": CHOSEN, "version": version, "sampling_before": sampling_before}
            if not _move(connection, selection, WANTED, **changes):
                return None
            connection.execute(selected_tasks.delete().where(selected_tasks.c.selection_id == selection.id))
            common = {"selection_id": selection.id, "stored": False}
            rows = [{**common, **each._asdict(), "rank": rank} for rank, each in enumerate(chosen, start=1)]
            if rows:
                connection.execute(selected_tasks.insert(), rows)
        return replace(selection, **changes)

    def shortlist(self, selection: Selection) -> dict[int, float | None]:
        """By task the disagreement of its sampled captions; None where none were sampled yet. Empty without a list."""
        mine = selected_tasks.c.selection_id == selection.id
        with self.reading() as connection:
            rows = connection.execute(sa.select(selected_tasks.c.task_id, selected_tasks.c.disagreement).where(mine))
            return {row.task_id: row.disagreement for row in rows}

    def save_shortlist(self, selection: Selection, task_ids: Iterable[int]) -> None:
        """Store of which tasks captions are to be sampled."""
        rows = [
            {"selection_id": selection.id, "task_id": id_, "is_control": False, "stored": False} for id_ in task_ids
        ]
        with self.writing(selection.project_id, durable=False) as connection:
            connection.execute(selected_tasks.delete().where(selected_tasks.c.selection_id == selection.id))
            if rows:
                connection.execute(selected_tasks.insert(), rows)

    def save_disagreements(self, selection: Selection, found: Mapping[int, float]) -> None:
        """Store how much the sampled captions of these tasks disagree."""
        one = selected_tasks.update().where(
            selected_tasks.c.selection_id == selection.id, selected_tasks.c.task_id == sa.bindparam("of_task")
        )
        with self.writing(selection.project_id, durable=False) as connection:
            rows = [{"of_task": id_, "value": value} for id_, value in found.items()]
            connection.execute(one.values(disagreement=sa.bindparam("value")), rows)

    def ranks(self, selection: Selection, unstored: bool = False) -> list[Ranked]:
        """Its tasks in their order; with `unstored` those whose prediction Label Studio may lack."""
        mine = (selected_tasks.c.selection_id == selection.id) & selected_tasks.c.rank.is_not(None)
        if unstored:
            mine &= ~selected_tasks.c.stored
        query = sa.select(selected_tasks.c.task_id, selected_tasks.c.rank).where(mine)
        with self.reading() as connection:
            return [Ranked(*row) for row in connection.execute(query.order_by(selected_tasks.c.rank))]

    def mark_stored(self, selection: Selection, stored: Sequence[int], gone: Sequence[int]) -> None:
        """Store that Label Studio has the predictions of these tasks, and that those others wait no more."""
        mine = selected_tasks.c.selection_id == selection.id
        with self.writing(selection.project_id, durable=False) as connection:
            for some in chunks(stored):
                of_tasks = selected_tasks.c.task_id.in_(some)
                connection.execute(selected_tasks.update().where(mine, of_tasks).values(stored=True))
            for some in chunks(gone):
                connection.execute(selected_tasks.delete().where(mine, selected_tasks.c.task_id.in_(some)))

    def show_selection(self, selection: Selection) -> bool:
        """Store that Label Studio serves it, and no earlier one; False where it was given up meanwhile."""
        with self.writing(selection.project_id) as connection:
            if not _move(connection, selection, CHOSEN, state=SHOWN):
                return False
            earlier = (selections.c.project_id == selection.project_id) & (selections.c.id != selection.id)
            _end(connection, earlier & (selections.c.state == SHOWN), None)
            return True

    def end_selection(self, selection: Selection, reason: str | None = None, version: str | None = None) -> None:
        """Store that Label Studio serves it no more, or that none can be made among the drafts by this version."""
        with self.writing(selection.project_id) as connection:
            if version:
                connection.execute(selections.update().where(selections.c.id == selection.id).values(version=version))
            _end(connection, selections.c.id == selection.id, reason)

    def undo_selections(self, project_id: int) -> None:
        """End what is selected, and let no other one follow a promotion."""
        with self.writing(project_id) as connection:
            mine = selections.c.project_id == project_id
            connection.execute(selections.update().where(mine).values(after_promotions=False))
            _end(connection, mine & selections.c.state.in_((*OPEN, SHOWN)), None)

    def forget_selection(self, selection: Selection, again: bool) -> None:
        """Store that its predictions are deleted; `again`: but for some that may be open, which are tried once more."""
        changes = {"due_at": _later()} if again else {"state": GONE}
        with self.writing(selection.project_id, durable=False) as connection:
            _move(connection, selection, ENDED, **changes)

    def selection_progress(self, selection: Selection) -> Progress:
        """How many of its tasks are stored and labelled."""
        mine = (selected_tasks.c.selection_id == selection.id) & selected_tasks.c.rank.is_not(None)
        of_project = corrections.c.project_id == selection.project_id
        labels = of_project & (corrections.c.task_id == selected_tasks.c.task_id) & ~corrections.c.deleted
        deleted = (tasks.c.project_id == selection.project_id) & (tasks.c.id == selected_tasks.c.task_id)
        waits = ~sa.exists().where(labels) & ~sa.exists().where(deleted, tasks.c.deleted)

        def number(of: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
            return sa.func.coalesce(sa.func.sum(sa.case((of, 1), else_=0)), 0)

        counts = [number(of) for of in (selected_tasks.c.is_control, selected_tasks.c.stored, waits)]
        people = sa.func.count(sa.distinct(sa.func.coalesce(corrections.c.annotator, 0)))
        with self.reading() as connection:
            [row] = connection.execute(sa.select(sa.func.count(), *counts).select_from(selected_tasks).where(mine))
            at_it = sa.select(people, sa.func.max(corrections.c.recorded_at))
            [last] = connection.execute(at_it.select_from(selected_tasks.join(corrections, labels)).where(mine))
            return Progress(row[0], row[1], row[2], row[3], last[0], last[1])


def _found(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Selection]:
    rows = connection.execute(sa.select(selections).where(where).order_by(selections.c.id))
    return [Selection(**row._mapping) for row in rows]


def _move(connection: sa.Connection, selection: Selection, was: str, **changes: Any) -> bool:
    """Change it where it is in that state still."""
    mine = (selections.c.id == selection.id) & (selections.c.state == was)
    return connection.execute(selections.update().where(mine).values(**changes)).rowcount == 1


def _end(connection: sa.Connection, which: sa.ColumnElement[bool], reason: str | None) -> None:
    """One that was never chosen leaves nothing in Label Studio."""
    state = sa.case((selections.c.state == WANTED, GONE), else_=ENDED)
    open_ = selections.c.state.in_((*OPEN, SHOWN))
    changes = {"state": state, "due_at": _later(), "reason": reason}
    connection.execute(selections.update().where(which & open_).values(**changes))


def _later() -> datetime:
    """When nobody may have open any more what is shown now."""
    return now() + timedelta(seconds=OPEN_SECONDS)
