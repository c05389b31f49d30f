"""Compares Label Studio with the store: webhooks are sent once, and several of its bulk actions send none.

A complete comparison lists every task without its annotations and reads in full those that changed since they were
last read; tasks that are no longer listed were deleted. A partial one reads the tasks that Label Studio says have
changed lately. Events that arrive after a reading began take precedence over the reading.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import labeling_config
from backend.domain.corrections import Event
from backend.domain.errors import CaptionerError, LabelStudioError, RequestError
from backend.label_studio import wire
from backend.label_studio.client import FULL_TASKS, LabelStudio
from backend.settings import Settings
from backend.store.database import chunks, now
from backend.store.lease import has_come
from backend.store.recording import RECONCILED, Receipt
from backend.store.store import Store
from labeling_config import LabelingConfigError, Tags
from training.runtime.console import counted

log = logging.getLogger(__name__)

OVERLAP_SECONDS = 300.0
"""A partial comparison reaches back so far before the last one: a transaction saved earlier may have become visible
later, and clocks differ. A complete one uses only our own clock."""

NAMED = 5
"""So many tasks that cannot be read are named."""

T = TypeVar("T")

KINDS = {
    "created": "annotation{} that had not arrived",
    "imported": "imported annotation{}",
    "in_bulk": "annotation{} made by bulk actions",
    "updated": "changed annotation{}",
    "deleted": "deleted annotation{}",
    "tasks_created": "task{} that had not arrived",
    "tasks_updated": "task{} with another image",
    "tasks_deleted": "deleted task{}",
}
"""What a comparison finds, with a place for the plural's s."""
ARRIVED = ("created", "imported", "in_bulk")


@dataclass
class Reconciliation:
    """A comparison of a project and what it found.

    `repairs` counts what was lacking by kind; `new` counts usable corrections among it. `first` is that of a project
    which was never compared. `tasks` is the number of tasks of the project, None after a partial comparison.
    `unreadable` are tasks that cannot be read; one keeps what is known of it.
    """

    project_id: int
    client: LabelStudio
    store: Store
    first: bool = False
    tasks: int | None = None
    new: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    unreadable: set[int] = field(default_factory=set)
    requests: int = 0
    seconds: float = 0.0
    _read: set[int] = field(default_factory=set)

    def __str__(self) -> str:
        every = "its only task" if self.tasks == 1 else f"all {self.tasks} tasks"
        what = "what changed lately" if self.tasks is None else every
        price = f"{what}, {counted(self.requests, 'request')}, {self.seconds:.1f} s"
        missed = self.missed
        said, end = "nothing had been missed", "."
        if self.first:
            tasks = counted(self.repairs["tasks_created"], "task")
            made = counted(sum(self.repairs[kind] for kind in ARRIVED), "annotation")
            said = f"compared for the first time, {tasks} and {made} taken in"
        if missed:
            changes = f"{counted(missed.total(), 'missed change')} taken in"
            said, end = f"{said}, and {changes}" if self.first else changes, ":"
        lines = [f"Project {self.project_id}: {said} ({price}){end}"]
        for kind in (kind for kind in KINDS if missed[kind]):
            lines.append(f"  {missed[kind]:>6} {KINDS[kind].format('s' * (missed[kind] != 1))}")
        return "\n".join([*lines, about_unreadable(self.unreadable)] if self.unreadable else lines)

    def to_json(self) -> dict[str, Any]:
        """The comparison for programs; `missed` are the changes that no webhook reported, by kind."""
        return {
            "project": self.project_id,
            "first": self.first,
            "tasks": self.tasks,
            "new": self.new,
            "taken_in": dict(self.repairs),
            "missed": dict(self.missed),
            "unreadable": sorted(self.unreadable),
            "requests": self.requests,
            "seconds": self.seconds,
        }

    @property
    def missed(self) -> Counter[str]:
        """The changes that no webhook reported. What a project had before it was first compared is none of them."""
        before = {*ARRIVED, "tasks_created"} if self.first else set()
        return Counter({kind: count for kind, count in self.repairs.items() if kind not in before})

    def run(self, since: datetime | None) -> None:
        """Compare the tasks changed since then, or all."""
        begun, clock, sent = now(), time.monotonic(), self.client.requests
        self.tags = _tags(self.client, self.project_id)
        listed = self._compare(since)
        if since is None:
            self._delete_but(listed, begun)
            self.tasks = len(listed)
        self.repairs = +self.repairs  # without those at zero
        self.requests, self.seconds = self.client.requests - sent, time.monotonic() - clock
        self._save(begun)

    def _compare(self, since: datetime | None) -> set[int]:
        """List tasks and read in full those whose fingerprint changed; the ids of all that are there."""
        pages = self.client.task_summaries(self.project_id, self.unreadable, since)
        listed = {task.id: task.seen for page in pages for task in self._decoded(wire.task_summaries, page)}
        store, project_id = self.store, self.project_id
        known = store.fingerprints(project_id) if since is None else store.fingerprints_of(project_id, sorted(listed))
        for some in chunks([id_ for id_, seen in listed.items() if known.get(id_) != seen], FULL_TASKS):
            asked_at = now()
            self._record_tasks(self.client.full_tasks(self.project_id, some, self.unreadable), asked_at)
        return listed.keys() | self.unreadable

    def _decoded(self, decode: Callable[[list[Any], int, Tags], T], entries: list[Any]) -> T:
        """These tasks decoded, without those that cannot be."""
        try:
            return decode(entries, self.project_id, self.tags)
        except RequestError:
            return decode(wire.readable(entries, self.unreadable), self.project_id, self.tags)

    def _delete_but(self, listed: Container[int], asked_at: datetime) -> None:
        """Delete every known task that is not listed, unless an event about it came after the listing began."""
        known = self.store.fingerprints(self.project_id)
        for gone in chunks(sorted(id_ for id_ in known if id_ not in listed)):
            body = {"deleted_tasks": list(gone)}
            self._record(Event(RECONCILED, self.project_id, deleted_tasks=tuple(gone), body=body, observed_at=asked_at))

    def _record_tasks(self, entries: list[Any], asked_at: datetime) -> None:
        """Record these full tasks, requested at that time."""
        read = self._decoded(wire.full_tasks, entries)
        ids = [task.id for task in read.tasks]
        self._read.update(ids)
        event = Event(
            action=RECONCILED,
            project_id=self.project_id,
            corrections=read.corrections,
            tasks=read.tasks,
            body={"tasks": ids, "annotations": [correction.annotation_id for correction in read.corrections]},
            observed_at=asked_at,
            whole_tasks=tuple(ids),
            shown=read.shown,
        )
        for annotation_id in self._record(event).changes.created:
            self.repairs[read.made[annotation_id]] += 1

    def _record(self, event: Event) -> Receipt:
        receipt = self.store.record(event)
        self.new += receipt.new_corrections
        changes = receipt.changes
        for kind in ("updated", "deleted", "tasks_created", "tasks_updated", "tasks_deleted"):
            self.repairs[kind] += len(getattr(changes, kind))
        return receipt

    def _save(self, begun: datetime) -> None:
        state = self.store.reconciliation_state(self.project_id)
        earlier = set(state.unreadable) - self._read if self.tasks is None else set()
        state = replace(state, unreadable=sorted(earlier | self.unreadable))
        if self.tasks is not None:
            state = replace(state, completed_at=begun, completed_tasks=self.tasks)
            state = replace(state, completed_requests=self.requests, completed_seconds=self.seconds)
        repaired, repairs = state.repaired + self.missed.total(), dict(self.missed)
        state = replace(state, compared_at=begun, repairs=repairs, repaired=repaired, failed_at=None, failure=None)
        self.store.save_reconciliation(state)


def reconcile(project_id: int, client: LabelStudio, store: Store, complete: bool = True) -> Reconciliation:
    """Record what Label Studio has and the store lacks. With `complete`, every task is compared.

    May be repeated and run beside others; if it is interrupted, all it has read is recorded. Raises LabelStudioError
    when Label Studio cannot be reached or the project's labelling config has no caption box.
    """
    compared_at = store.reconciliation_state(project_id).compared_at
    since = None
    if compared_at and not complete and compared_at <= now():  # a later time is by a clock that has been set back
        since = compared_at - timedelta(seconds=OVERLAP_SECONDS)
    found = Reconciliation(project_id, client, store, first=compared_at is None)
    found.run(since)
    return found


def reconcile_if_possible(settings: Settings, store: Store, project_id: int, complete: bool = True) -> None:
    """As `reconcile`, but an error is stored and logged: without it a retrain misses only lost events."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return
    try:
        client = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
        log.info("%s", reconcile(project_id, client, store, complete))
    except CaptionerError as error:
        log.warning("Project %d is not compared with Label Studio: %s", project_id, error)
        store.save_failure(project_id, str(error))


def about_unreadable(task_ids: Collection[int]) -> str:
    """A sentence about tasks that cannot be read."""
    named = ", ".join(map(str, sorted(task_ids)[:NAMED]))
    more = f" and {len(task_ids) - NAMED} more" if len(task_ids) > NAMED else ""
    if len(task_ids) == 1:
        return f"Task {named} cannot be read from Label Studio and is left out; delete it, or its damaged annotation."
    return f"Tasks {named}{more} cannot be read from Label Studio and are left out; delete them, or what is damaged."


def is_complete_due(settings: Settings, store: Store, project_id: int) -> bool:
    """Whether the scheduled comparison must be a complete one."""
    completed_at = store.reconciliation_state(project_id).completed_at
    return completed_at is None or has_come(
        completed_at + timedelta(seconds=settings.sweep_seconds), now(), settings.sweep_seconds
    )


def _tags(client: LabelStudio, project_id: int) -> Tags:
    label_config = client.project(project_id).get("label_config") or ""
    try:
        return labeling_config.parse(label_config)
    except LabelingConfigError as error:
        raise LabelStudioError(f"The captions of project {project_id} cannot be read: {error}") from error
