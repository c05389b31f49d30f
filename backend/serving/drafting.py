"""Drafts tasks: a stored draft where there is one, else fetch the image, caption it and store the draft."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from backend.domain.corrections import Draft, DraftFailure, Task
from backend.domain.errors import ImageError, ModelUnavailableError
from backend.images.cache import Images, LocalImage
from backend.serving.captions import Captions
from backend.serving.champions import Champions, Loader
from backend.serving.lanes import Lane
from backend.serving.reuse import Reuse
from backend.serving.room import Room
from backend.serving.workers import Workers
from backend.settings import Settings
from backend.store.registry import ModelVersion
from backend.store.store import Project, Store
from training.data.manifest import BLIND
from training.errors import DataError

if TYPE_CHECKING:
    from training.decoding.beam_search import Hypothesis

log = logging.getLogger(__name__)

NO_MODEL = "There is no model for this project yet."
BUDGET_SECONDS = 75.0
"""Label Studio drops a whole batch after 100 s; a request is answered before that with the drafts made by then."""

WINDOW = 128
"""Tasks of a request that are under way at once, which bounds what it holds in memory: 32 that are stored, and what the
model and those that decode ahead of it hold."""
CHUNK = 32
"""Drafts that are stored together."""
FETCHERS = 32
"""Threads that fetch: each may hold an image of `images.download.MAX_BYTES` in memory."""
RESERVED_FETCHERS = 8
"""Of these, for small requests only."""
FETCHED_AT_ONCE = 8
"""Of one request, so that a slow host of its images does not take all threads."""
WAKE_SECONDS = 1.0

_UNEXPECTED = "Fetching its image failed ({}); the captioner's log has the details."

Drafted = Draft | DraftFailure
_Key = tuple[int, str | None]


class _Answer(NamedTuple):
    """What came of a task: its image and the hypothesis, or why there is none."""

    task: Task
    image: LocalImage | None
    found: Hypothesis | BaseException


@dataclass(eq=False)
class _Request:
    """Tasks of one project that are asked for together, and what came of them so far."""

    project_id: int
    project: Project | None
    version: str
    lane: Lane
    answers: SimpleQueue[_Answer] = field(default_factory=SimpleQueue)


class Drafting:
    """Drafts tasks by the version that serves, or with a correction of nearly the same image where there is `reuse`.

    Threads may share it.
    """

    def __init__(
        self,
        store: Store,
        images: Images,
        champions: Champions,
        blind_share: float = 0.0,
        reuse: Reuse | None = None,
    ) -> None:
        self._store = store
        self._images = images
        self._champions = champions
        self._blind_share = blind_share
        self._reuse = reuse
        self._fetchers: Workers[Callable[[], None]] = Workers(
            "images", lambda fetch, lane: fetch(), FETCHERS, RESERVED_FETCHERS, FETCHED_AT_ONCE
        )
        self._captions = Captions(champions)
        self._room = Room()

    def draft(
        self, project_id: int, tasks: Sequence[Task], version: str | None, came: float | None = None
    ) -> list[Drafted]:
        """A draft or the reason why there is none, for each task in order.

        A task that this version has drafted before gets the same draft again, so that concurrent requests agree. The
        draft of a blind task has a score and no text.
        The caller keeps `version` loaded; None means that nothing serves the project, which is not recorded as a
        failure. `came` is when the request came, by `time.monotonic` (default: now); its time budget began then.
        Raises BusyError when too many tasks wait already.
        """
        if version is None:
            return [DraftFailure(project_id, task.id, NO_MODEL) for task in tasks]
        deadline = (time.monotonic() if came is None else came) + BUDGET_SECONDS
        done: dict[_Key, Drafted] = dict(self.known(project_id, tasks, version))
        todo = [task for task in dict.fromkeys(tasks) if _key(task) not in done]
        if todo:
            lane = Lane.of(len(todo))
            with self._room.taken(lane, len(todo)) as leave:
                made = self._make(project_id, todo, version, lane, deadline, leave)
            late = {_key(task): _late(task) for task in todo if _key(task) not in made}
            self._record(project_id, late)
            # Read back: another request may have drafted some of them meanwhile, and the first draft counts.
            done |= late | made | self.known(project_id, todo, version)
        return [done[_key(task)] for task in tasks]

    def known(self, project_id: int, tasks: Sequence[Task], version: str) -> dict[_Key, Draft]:
        """The drafts of these tasks that the version has made, by the task's id and image; in their place the
        corrections that are to be shown now, which are recorded."""
        ids = list(dict.fromkeys(task.id for task in tasks))
        drafts = self._store.get_drafts(project_id, ids, version)
        last = {(draft.task_id, draft.image): draft for draft in drafts}
        shown: dict[_Key, Draft] = {
            (draft.task_id, draft.image): draft for draft in reversed(drafts) if draft.from_task is None
        }
        if self._reuse and shown:
            shown = self._reuse.shown(project_id, version, shown)
        if changed := [draft for draft in shown.values() if draft != last[draft.task_id, draft.image]]:
            self._store.show_instead(project_id, changed)
        return shown

    def _make(
        self,
        project_id: int,
        tasks: Sequence[Task],
        version: str,
        lane: Lane,
        deadline: float,
        leave: Callable[[int], None],
    ) -> dict[_Key, Drafted]:
        """New drafts and failures, stored bit by bit; of the tasks whose turn comes before the deadline.

        `leave` is told how many no longer wait.
        """
        request = _Request(project_id, self._store.get_project(project_id), version, lane)
        waiting, under_way = deque(tasks), 0
        ready: list[_Answer] = []
        made: dict[_Key, Drafted] = {}
        try:
            while waiting or under_way:
                left = deadline - time.monotonic()
                while waiting and under_way < WINDOW and left > 0:
                    self._fetchers.put(partial(self._begin, request, waiting.popleft()), lane, request)
                    under_way += 1
                try:
                    ready.append(request.answers.get(timeout=max(0.0, min(left, WAKE_SECONDS))))
                    under_way -= 1
                    leave(1)
                except Empty:
                    if left <= 0:
                        break
                if len(ready) >= CHUNK:
                    made |= self._store_drafts(project_id, version, ready)
                    ready = []
        finally:
            self._fetchers.drop(request)
        return made | self._store_drafts(project_id, version, ready)

    def _begin(self, request: _Request, task: Task) -> None:
        """Fetch the image of a task, then have it captioned."""
        project_id, version = request.project_id, request.version
        try:
            if task.image is None:
                raise ImageError("Its data has no image under the key that the labelling config shows.")
            image = self._images.local(task.image, task, request.project)
            reranking = self._reuse.retrieval(project_id, version) if self._reuse else None
            found = self._captions.ask(version, image, request.lane, request, reranking)
        except Exception as error:  # one task must not fail the others
            request.answers.put(_Answer(task, None, error))
            return

        def answer(done: Future[Hypothesis]) -> None:
            request.answers.put(_Answer(task, image, done.exception() or done.result()))

        found.add_done_callback(answer)

    def _store_drafts(self, project_id: int, version: str, answers: Sequence[_Answer]) -> dict[_Key, Drafted]:
        """Store the drafts and failures of these answers."""
        places = self._store.place(project_id, [each.image.sha256 for each in answers if each.image], self._blind_share)
        found: dict[_Key, Drafted] = {}
        features: dict[str, bytes] = {}
        for task, image, caption in answers:
            if image is None or isinstance(caption, BaseException):
                found[_key(task)] = DraftFailure(project_id, task.id, _reason(task, caption))
                continue
            blind = places[image.sha256] == BLIND  # scored like the others, to be queued like them
            if caption.text or blind:
                text, score = "" if blind else caption.text, caption.score
                found[_key(task)] = Draft(project_id, task.id, version, task.image or "", text, score, image.sha256)
            else:  # Label Studio takes an empty prediction for a draft and asks no more
                found[_key(task)] = DraftFailure(project_id, task.id, f"{version} has no words for its image.")
            if caption.feature:
                features[image.sha256] = caption.feature
        if features and self._reuse:
            self._reuse.add_features(project_id, version, features)
        self._record(project_id, found)
        return found

    def _record(self, project_id: int, found: Mapping[_Key, Drafted]) -> None:
        self._store.add_drafts(project_id, [draft for draft in found.values() if isinstance(draft, Draft)])
        failures = [failure for failure in found.values() if isinstance(failure, DraftFailure)]
        self._store.add_failures(project_id, failures)
        if failures:
            first = f"task {failures[0].task_id}: {failures[0].reason}"
            log.warning("%d tasks of project %d get no draft; %s", len(failures), project_id, first)


Drafter = Callable[[int, Sequence[Task], ModelVersion], list[Drafted]]
"""Gives, for tasks of a project, a draft by the version or the reason why there is none, in order."""


def drafter(settings: Settings, store: Store, load: Loader | None = None) -> Drafter:
    """Drafts outside the web process, the same as /predict makes, by one version.

    It loads the version only for tasks that it has not drafted before, or where there are corrections to reuse.
    """
    champions = Champions(settings.device, load)
    reuse = Reuse(store, champions) if settings.reuse == "on" else None
    drafting = Drafting(store, Images(settings), champions, settings.blind_share, reuse)

    def draft(project_id: int, tasks: Sequence[Task], version: ModelVersion) -> list[Drafted]:
        if not champions.serving(project_id):
            made = store.get_drafts(project_id, [task.id for task in tasks], version.name)
            known: dict[_Key, Drafted] = {(each.task_id, each.image): each for each in made}
            if all(_key(task) in known for task in tasks) and not (reuse and store.revision(project_id)):
                return [known[_key(task)] for task in tasks]
            champions.serve(project_id, version.name, version.checkpoint)
        if reuse:
            reuse.update(project_id, version.name)
        return drafting.draft(project_id, tasks, version.name, came=math.inf)  # nobody waits

    return draft


def _reason(task: Task, error: Hypothesis | BaseException) -> str:
    """Why a task has no draft, in a sentence."""
    if isinstance(error, ImageError | DataError | ModelUnavailableError):
        return str(error)
    log.error("The image of task %d of project %d failed.", task.id, task.project_id, exc_info=error)  # type: ignore[arg-type]
    return _UNEXPECTED.format(type(error).__name__)


def _late(task: Task) -> DraftFailure:
    reason = f"Its turn did not come within {BUDGET_SECONDS:g} seconds; ask again for the rest."
    return DraftFailure(task.project_id, task.id, reason)


def _key(task: Task) -> _Key:
    return task.id, task.image
