"""Drafts tasks chunk by chunk: any number of jobs on any number of machines share a project.

A chunk is the next page of the list of tasks. A job cuts it off in SQL, drafts it, stores the drafts in Label Studio
and says so in SQL. The chunk of a job that was killed is listed again: predictions that it had stored are found in
Label Studio, and drafts that it had made are found in SQL.

Cost, with b tasks a chunk (250, or 100 at most where there is a limit, or what ten seconds of it allow): 1/b requests a
task to list it and 1/b to store its draft. What Label Studio takes to store them is in label_studio/predictions.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from backend.domain.corrections import Draft, DraftFailure
from backend.drafts.job import Job
from backend.label_studio import wire
from backend.label_studio.client import FULL_TASKS
from backend.label_studio.predictions import Predictions
from backend.serving.champions import BATCH
from backend.serving.drafting import Drafter
from backend.store.drafts.chunks import Chunk
from backend.store.drafts.refreshes import RefreshState
from labeling_config import Tags

CHUNK_TASKS, FEWEST_TASKS, PARTS = 250, 50, 4
"""The most tasks in a chunk, which Label Studio lists in about a second. The first and the last chunks hold fewer, of
what is left one of so many parts, so that every worker has one."""
BATCH_SECONDS = 10.0
"""With a limit a chunk takes at most so long at it, and so does stopping."""
_BRIEF_SECONDS = 5.0
"""A job looks whether it must end about so often."""

Tasks = Sequence[Mapping[str, Any]]


def size_of(per_minute: int | None, left: int = CHUNK_TASKS * PARTS) -> int:
    """Tasks in a chunk where so many are left in the list."""
    if per_minute is None:
        return min(CHUNK_TASKS, max(FEWEST_TASKS, left // PARTS))
    return max(1, min(FULL_TASKS, int(per_minute * BATCH_SECONDS / 60)))


def left_of(state: RefreshState, undone: Sequence[Chunk]) -> int:
    """Tasks of the list that no chunk holds or held, as far as the list is known; `undone` are those not done."""
    return state.total - state.checked - sum(chunk.tasks for chunk in undone)


@dataclass
class Drafting:
    """A job's drafting of a project: of `every` unlabelled task, or of those with a draft by another of its versions,
    which are sorted from the oldest."""

    job: Job
    draft: Drafter
    tags: Tags
    versions: Sequence[str]
    every: bool
    per_minute: int | None
    _predictions: Predictions = field(init=False)
    _at_once: int = BATCH

    def __post_init__(self) -> None:
        self._predictions = Predictions(self.job.client, self.job.project_id)

    def work(self) -> None:
        """Draft chunk after chunk until no more are free. Raises EndedError where the time is over."""
        job = self.job
        while True:
            began = job.clock()
            if chunk := job.store.claim_chunk(job.project_id):
                job.take(chunk)
                size = size_of(self.per_minute)
                tasks, left = self._page(chunk.after_task, size, version=chunk.of_version, last=chunk.last_task)
                self._draft(chunk, tasks, began)
                if left > len(tasks):  # the limit was changed meanwhile, and a page is smaller
                    job.leave(done=False)
                    continue
            elif listed := self._next():
                self._draft(*listed, began)
            else:
                return
            job.leave(done=True)

    def _next(self) -> tuple[Chunk, Tasks] | None:
        """Cut the next chunk from the list; None at its end."""
        job = self.job
        while not (state := job.store.refresh_state(job.project_id)).listed and not state.stopped:
            newest = job.store.newest_task(job.project_id)
            version, after = (None, state.checked_to) if self.every else self._place(state)
            size = size_of(self.per_minute, left_of(state, job.store.chunks(job.project_id)))
            tasks, left = self._page(after, size, version=version) if self.every or version else ([], 0)
            if tasks:
                chunk = job.store.add_chunk(state, version, tasks[-1]["id"], len(tasks), left)
                if chunk:
                    job.take(chunk)
                    return chunk, tasks
            elif self.every:
                job.store.end_list(state, listed=True, checked_to=max(newest, after))
            elif version and (later := self._stale[self._stale.index(version) + 1 :]):
                job.store.end_list(state, of_version=later[0], after_task=0)
            else:
                job.store.end_list(state, listed=True, of_version=None, after_task=0)
        return None

    def _place(self, state: RefreshState) -> tuple[str | None, int]:
        """Where the list of tasks with drafts by other versions has been cut to: the oldest version comes first."""
        if state.of_version in self._stale:
            return state.of_version, state.after_task
        return (self._stale[0], 0) if self._stale else (None, 0)

    @cached_property
    def _stale(self) -> list[str]:
        shown = self.job.client.model_versions(self.job.project_id)
        return [name for name in self.versions if name in shown and name != self.job.champion.name]

    def _draft(self, chunk: Chunk, tasks: Tasks, began: float) -> None:
        """Store drafts for those of the chunk's tasks that lack one. Raises EndedError where the time is over."""
        job = self.job
        lacking = [task for task in tasks if self._lacks(task, chunk.of_version)]
        stored, tried = self._store(lacking)
        is_whole = tried == len(lacking)
        done = tasks if is_whole else [task for task in tasks if task["id"] <= lacking[tried - 1]["id"]]
        if done:
            job.advance(done[-1]["id"], checked=len(done), stored=stored, failed=tried - stored)
            if self.per_minute:
                at_it = sum(each.is_claimed for each in job.store.chunks(job.project_id))
                job.rest(began, stored * 60 / self.per_minute * max(1, at_it))
        job.end_in_time()

    def _lacks(self, task: Mapping[str, Any], of_version: str | None) -> bool:
        """Whether the task is to be drafted in a chunk of this list; one with drafts by several versions is in several
        lists, and is drafted with the first."""
        held = {each.get("model_version") for each in task.get("predictions") or []}
        if self.job.champion.name in held:
            return False
        others = (name for name in self.versions if name != self.job.champion.name and name in held)
        return of_version is None or next(others, None) == of_version

    def _store(self, entries: Tasks) -> tuple[int, int]:
        """Draft these tasks and store the drafts in Label Studio; how many were stored, of how many tasks: of the first
        ones where the time is over."""
        job, made, tried = self.job, list[dict[str, Any]](), 0
        while some := entries[tried : tried + self._at_once]:
            began, unreadable = job.clock(), set[int]()
            tasks = wire.task_summaries(wire.readable(some, unreadable), job.project_id, self.tags)
            self._leave_out(unreadable)
            found = [draft for draft in self.draft(job.project_id, tasks, job.champion) if isinstance(draft, Draft)]
            made += [{"task": draft.task_id, **wire.prediction(draft, self.tags)} for draft in found]
            tried += len(some)
            job.check()
            if job.is_over:
                break
            if job.clock() - began < _BRIEF_SECONDS and len(some) == self._at_once:
                self._at_once *= 2  # the next images are fetched and decoded while these are captioned
        return self._predictions.store(made), tried

    def _page(self, after: int, size: int, **chosen: Any) -> tuple[list[Any], int]:
        unreadable = set[int]()
        page = self.job.client.unlabelled(self.job.project_id, after, size, unreadable, **chosen)
        self._leave_out(unreadable)
        return page

    def _leave_out(self, unreadable: set[int]) -> None:
        leave_out(self.job, unreadable)


def leave_out(job: Job, unreadable: set[int]) -> None:
    """Store that these tasks get no draft, so that the status names them."""
    failures = [DraftFailure(job.project_id, id_, "It cannot be read from Label Studio.") for id_ in sorted(unreadable)]
    job.store.add_failures(job.project_id, failures)
