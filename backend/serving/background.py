"""Tasks whose turn did not come in time: they are drafted when nothing else waits, so that asking again is instant."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from backend.domain.corrections import Task
from backend.serving.champions import Champions

log = logging.getLogger(__name__)

MOST_TASKS = 20_000
"""Tasks that may wait; the rest is drafted when it is asked for again."""
MOST_CHARACTERS = 32 * 2**20
"""Of the image references of these tasks: an inline image is one of its reference."""
AT_ONCE = 256
"""Tasks drafted before those of another project have their turn."""

_Group = tuple[int, str]

Draft = Callable[[int, Sequence[Task], str, Callable[[], bool]], None]
"""Drafts tasks of a project by a version, as long as the last argument says yes."""


class Background:
    """Waiting tasks by project and version; one thread drafts them. Threads may share it.

    A version stays loaded while some of its tasks wait. They are dropped when it no longer serves their project.
    """

    def __init__(self, champions: Champions, draft: Draft) -> None:
        self._champions, self._draft = champions, draft
        self._lock = threading.Lock()  # guards everything below
        self._waiting: dict[_Group, dict[Task, None]] = {}
        self._characters = 0
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, project_id: int, version: str, tasks: Sequence[Task]) -> list[Task]:
        """Draft these tasks later; returns those that are too many. Those that wait already are not added again.

        The caller keeps the version loaded until this returns.
        """
        left: list[Task] = []
        with self._lock:
            if self._stopped or not tasks:
                return list(tasks)
            if (project_id, version) not in self._waiting:
                self._champions.hold(version)
            group = self._waiting.setdefault((project_id, version), {})
            number = sum(map(len, self._waiting.values()))
            for task in dict.fromkeys(tasks):
                if task in group:
                    continue
                if number >= MOST_TASKS or self._characters + _characters(task) > MOST_CHARACTERS:
                    left.append(task)
                    continue
                group[task] = None
                number += 1
                self._characters += _characters(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="background", daemon=True)
                self._thread.start()
        return left

    def stop(self) -> None:
        """Drop what waits, and return once nothing is drafted any more."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        if thread:
            thread.join()

    def _run(self) -> None:
        while begun := self._next():
            group, tasks = begun
            try:
                self._draft(group[0], tasks, group[1], partial(self._goes_on, *group))
            except Exception:  # they are drafted when they are asked for again
                log.exception("%d tasks of project %d are not drafted in the background.", len(tasks), group[0])
            with self._lock:
                self._forget(group, tasks)
                self._waiting[group] = self._waiting.pop(group)  # behind the others

    def _next(self) -> tuple[_Group, list[Task]] | None:
        """The tasks that are drafted next; None ends the thread."""
        with self._lock:
            for group, tasks in list(self._waiting.items()):
                if tasks and self._goes_on(*group):
                    return group, list(islice(tasks, AT_ONCE))
                self._forget(group, list(tasks))
                del self._waiting[group]
                self._champions.let_go(group[1])
            self._thread = None
            return None

    def _goes_on(self, project_id: int, version: str) -> bool:
        return not self._stopped and self._champions.serving(project_id) == version

    def _forget(self, group: _Group, tasks: Sequence[Task]) -> None:
        for task in tasks:
            del self._waiting[group][task]
            self._characters -= _characters(task)


def _characters(task: Task) -> int:
    return len(task.image or "")
