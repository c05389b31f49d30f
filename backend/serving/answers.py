"""The images of tasks, fetched and captioned, as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from backend.domain.corrections import Task
from backend.domain.errors import ImageError
from backend.images.cache import Images, LocalImage
from backend.serving.captions import Captions
from backend.serving.champions import Champions
from backend.serving.lanes import Lane
from backend.serving.reuse import Reuse
from backend.serving.workers import Workers
from backend.store.store import Project
from backend.system import metrics

if TYPE_CHECKING:
    from training.decoding.beam_search import Hypothesis

WINDOW = 128
"""Tasks of a request that are under way at once, which bounds what it holds in memory: 32 that are stored, and what the
model and those that decode ahead of it hold."""
CHUNK = 32
"""Answers that are given together."""
THREADS = 32
"""Threads that fetch: each may hold an image of `images.download.MAX_BYTES` in memory."""
RESERVED = 8
"""Of these, for small requests only."""
EACH = 8
"""Of one request, so that a slow host of its images does not take all threads."""
WAKE_SECONDS = 0.5
"""How often a request that waits looks whether it still goes on."""


class Answer(NamedTuple):
    """What came of a task: its image and the hypothesis, or why there is none."""

    task: Task
    image: LocalImage | None
    found: Hypothesis | BaseException


class Captioned(NamedTuple):
    """A task whose image was captioned."""

    task: Task
    image: LocalImage
    caption: Hypothesis


@dataclass(eq=False)
class Request:
    """What tasks of one project are asked for together; `project` as its /setup described it. With a `hint` their
    captions are completed from it."""

    project_id: int
    project: Project | None
    version: str
    lane: Lane
    hint: str = ""
    answers: SimpleQueue[Answer] = field(default_factory=SimpleQueue)


class Answers:
    """Answers the requests of a process. Threads may share it."""

    def __init__(self, images: Images, champions: Champions, reuse: Reuse | None) -> None:
        self._images = images
        self._reuse = reuse
        self._captions = Captions(champions)
        self._fetchers: Workers[Callable[[], None]] = Workers(
            "images", lambda fetch, lane: fetch(), THREADS, RESERVED, EACH
        )

    def chunks(self, request: Request, tasks: Sequence[Task], goes_on: Callable[[], bool]) -> Iterator[list[Answer]]:
        """Answers as they come, some at a time, until there is one for each task or this no longer `goes_on`."""
        waiting, under_way = deque(tasks), 0
        ready: list[Answer] = []
        try:
            while waiting or under_way:
                on = goes_on()
                while waiting and under_way < WINDOW and on:
                    # in the request's context, so that what the thread logs has its id
                    begin = partial(copy_context().run, self._begin, request, waiting.popleft(), perf_counter())
                    self._fetchers.put(begin, request.lane, request)
                    under_way += 1
                try:
                    ready.append(request.answers.get(timeout=WAKE_SECONDS if on else 0.0))
                    under_way -= 1
                except Empty:
                    if not on:
                        break
                if len(ready) >= CHUNK:
                    yield ready
                    ready = []
        finally:
            self._fetchers.drop(request)
        if ready:
            yield ready

    def _begin(self, request: Request, task: Task, put: float) -> None:
        """Fetch the image of a task, which has waited for a thread since `put`, then have it captioned."""
        waited = perf_counter() - put
        try:
            if task.image is None:
                raise ImageError("Its data has no image under the key that the labelling config shows.")
            with metrics.phase("fetch"):
                image = self._images.local(task.image, task, request.project)
            reranking = self._reuse.retrieval(request.project_id, request.version) if self._reuse else None
            hint = request.hint
            found = self._captions.ask(request.version, image, request.lane, request, reranking, waited, hint)
        except Exception as error:  # one task must not fail the others
            request.answers.put(Answer(task, None, error))
            return

        def answer(done: Future[Hypothesis]) -> None:
            request.answers.put(Answer(task, image, done.exception() or done.result()))

        found.add_done_callback(answer)
