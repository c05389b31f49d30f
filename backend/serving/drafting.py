"""Drafts tasks: a stored draft where there is one, else fetch the image, caption it and store the draft."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from backend.domain.corrections import Draft, DraftFailure, Task
from backend.domain.errors import ImageError, ModelUnavailableError
from backend.images.cache import Images
from backend.serving.answers import Answer, Answers, Captioned, Request
from backend.serving.background import Background
from backend.serving.champions import Champions
from backend.serving.lanes import Lane
from backend.serving.reuse import Reuse
from backend.serving.room import Room
from backend.serving.scores import Scores, known_signals
from backend.settings import Settings
from backend.store.database import chunks
from backend.store.keeping.tombstones import forgotten_tasks
from backend.store.registry import ModelVersion
from backend.store.store import Store
from backend.system import metrics
from training.data.manifest import BLIND
from training.errors import DataError

log = logging.getLogger(__name__)

NO_MODEL = "There is no model for this project yet."
FORGOTTEN = "Its image was forgotten (`captioner forget`)."
BUDGET_SECONDS = 75.0
"""Label Studio drops a whole batch after 100 s; a request is answered before that with the drafts made by then."""

_UNEXPECTED = "Fetching its image failed ({}); the captioner's log has the details."

Drafted = Draft | DraftFailure
_Key = tuple[int, str | None]


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
        withhold_below: float = 0.0,
    ) -> None:
        self._store = store
        self._blind_share = blind_share
        self._withhold_below = withhold_below
        self._scores = Scores(store)
        self._reuse = reuse
        self._answers = Answers(images, champions, reuse)
        self._room = Room()
        self._background = Background(champions, self._draft_later)

    def draft(
        self, project_id: int, tasks: Sequence[Task], version: str | None, came: float | None = None
    ) -> list[Drafted]:
        """A draft or the reason why there is none, for each task in order.

        A task that this version has drafted before gets the same draft again, so that concurrent requests agree. The
        draft of a blind task has a score and no text, and so has one whose chance is below what is withheld.
        The caller keeps `version` loaded; None means that nothing serves the project, which is not recorded as a
        failure. `came` is when the request came, by `time.monotonic` (default: now); its time budget began then.
        Raises BusyError when too many tasks wait already.
        """
        if version is None:
            metrics.predicted({"none": len(tasks)})
            return [DraftFailure(project_id, task.id, NO_MODEL) for task in tasks]
        deadline = (time.monotonic() if came is None else came) + BUDGET_SECONDS
        done: dict[_Key, Drafted] = dict(self.known(project_id, tasks, version))
        stored = frozenset(done)
        todo = [task for task in dict.fromkeys(tasks) if _key(task) not in stored]
        if todo:
            lane = Lane.of(len(todo))
            with self._room.taken(lane, len(todo)) as leave:
                made = self._make(project_id, todo, version, lane, lambda: time.monotonic() < deadline, leave)
            late = self._leave_for_later(project_id, [task for task in todo if _key(task) not in made], version)
            # Read back: another request may have drafted some of them meanwhile, and the first draft counts.
            done |= late | made | self.known(project_id, todo, version)
        _count(tasks, done, stored)
        return [done[_key(task)] for task in tasks]

    def complete(self, project_id: int, tasks: Sequence[Task], version: str, hint: str, came: float) -> list[Draft]:
        """For each task, in order, a caption completed from the hint that somebody has typed, which is no draft: it is
        not stored. Its text is empty where there is none, and for a blind task, which must not be betrayed.

        The caller keeps `version` loaded. `came` and errors are as for `draft`.
        """
        lane = Lane.of(len(tasks))
        request = Request(project_id, self._store.get_project(project_id), version, lane, hint)
        found: dict[_Key, Draft] = {}
        with self._room.taken(lane, len(tasks)) as leave:
            for answers in self._answers.chunks(request, tasks, lambda: time.monotonic() < came + BUDGET_SECONDS):
                hashes = [answer.image.sha256 for answer in answers if answer.image]
                places = self._store.place(project_id, hashes, self._blind_share)
                for task, image, caption in answers:
                    if image is None or isinstance(caption, BaseException):
                        log.warning("The hint for task %d is not answered: %s", task.id, _reason(task, caption))
                    elif places[image.sha256] != BLIND:
                        found[_key(task)] = Draft(
                            project_id, task.id, version, task.image or "", caption.text, caption.score
                        )
                leave(len(answers))
        completed = sum(_key(task) in found for task in tasks)
        metrics.predicted({"completed": completed, "none": len(tasks) - completed})
        return [
            found.get(_key(task)) or Draft(project_id, task.id, version, task.image or "", "", 0.0) for task in tasks
        ]

    def stop(self) -> None:
        """End what goes on in the background."""
        self._background.stop()

    def known(self, project_id: int, tasks: Sequence[Task], version: str) -> dict[_Key, Draft]:
        """The drafts of these tasks that the version has made, by the task's id and image; in their place the
        corrections that are to be shown now, which are recorded."""
        found: dict[_Key, Draft] = {}
        for some in chunks(tasks):  # of thousands, all rows at once would take tens of megabytes
            found |= self._shown(project_id, some, version)
        return found

    def _shown(self, project_id: int, tasks: Sequence[Task], version: str) -> dict[_Key, Draft]:
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
        goes_on: Callable[[], bool],
        leave: Callable[[int], None] = lambda number: None,
    ) -> dict[_Key, Drafted]:
        """New drafts and failures, stored bit by bit; of the tasks whose turn comes while this `goes_on`.

        `leave` is told how many no longer wait.
        """
        request = Request(project_id, self._store.get_project(project_id), version, lane)
        gone = forgotten_tasks(self._store, project_id, tasks)
        made: dict[_Key, Drafted] = {
            _key(task): DraftFailure(project_id, task.id, FORGOTTEN) for task in tasks if task.id in gone
        }
        leave(len(made))
        tasks = [task for task in tasks if task.id not in gone]
        for answers in self._answers.chunks(request, tasks, goes_on):
            made |= self._store_drafts(project_id, version, answers)
            leave(len(answers))
        return made

    def _leave_for_later(self, project_id: int, tasks: Sequence[Task], version: str) -> dict[_Key, Drafted]:
        """Record that these tasks are late, and have them drafted in the background."""
        late: dict[_Key, Drafted] = {
            _key(task): _late(task, "is drafted in the background: ask again") for task in tasks
        }
        self._record(project_id, late)  # before a draft takes it back
        left = self._background.add(project_id, version, tasks)
        refused: dict[_Key, Drafted] = {_key(task): _late(task, "must be asked for again") for task in left}
        self._record(project_id, refused)
        return late | refused

    def _draft_later(self, project_id: int, tasks: Sequence[Task], version: str, goes_on: Callable[[], bool]) -> None:
        """Draft tasks for which nobody waits, but those that a repeat of their request has drafted meanwhile."""
        made = self._store.get_drafts(project_id, [task.id for task in tasks], version)
        known = {(draft.task_id, draft.image) for draft in made}
        self._make(project_id, [task for task in tasks if _key(task) not in known], version, Lane.BACKGROUND, goes_on)

    def _store_drafts(self, project_id: int, version: str, answers: Sequence[Answer]) -> dict[_Key, Drafted]:
        """Store the drafts and failures of these answers."""
        found: dict[_Key, Drafted] = {}
        made: list[Captioned] = []
        for task, image, caption in answers:
            if image is None or isinstance(caption, BaseException):
                found[_key(task)] = DraftFailure(project_id, task.id, _reason(task, caption))
            else:
                made.append(Captioned(task, image, caption))
        features = {each.image.sha256: each.caption.feature for each in made if each.caption.feature}
        places = self._store.place(project_id, [each.image.sha256 for each in made], self._blind_share)
        signals = self._signals(project_id, version, made)
        chances = self._scores.chances(project_id, signals)
        for (task, image, caption), of_draft, chance in zip(made, signals, chances, strict=True):
            blind = places[image.sha256] == BLIND  # scored like the others, to be queued like them
            if not caption.text and not blind:  # Label Studio takes an empty prediction for a draft and asks no more
                found[_key(task)] = DraftFailure(project_id, task.id, f"{version} has no words for its image.")
                continue
            hidden = blind or (chance is not None and chance < self._withhold_below)
            found[_key(task)] = Draft(
                project_id,
                task.id,
                version,
                task.image or "",
                "" if hidden else caption.text,
                caption.score if chance is None else chance,
                image.sha256,
                withheld=caption.text if hidden else None,
                signals=of_draft,
            )
        if features and self._reuse:
            self._reuse.add_features(project_id, version, features)
        self._record(project_id, found)
        return found

    def _signals(self, project_id: int, version: str, made: Sequence[Captioned]) -> list[dict[str, float] | None]:
        """The signals of these captions; None where the captioner gave none."""
        similarities = [math.nan] * len(made)
        if self._reuse and any(each.caption.signals for each in made):
            images = [(each.task.id, each.caption.feature) for each in made]
            similarities = self._reuse.similarities(project_id, version, images)
        return [
            known_signals(each.caption.signals, similarity) for each, similarity in zip(made, similarities, strict=True)
        ]

    def _record(self, project_id: int, found: Mapping[_Key, Drafted]) -> None:
        self._store.add_drafts(project_id, [draft for draft in found.values() if isinstance(draft, Draft)])
        failures = [failure for failure in found.values() if isinstance(failure, DraftFailure)]
        self._store.add_failures(project_id, failures)
        if failures:
            first = f"task {failures[0].task_id}: {failures[0].reason}"
            log.warning("%d tasks of project %d get no draft; %s", len(failures), project_id, first)


Drafter = Callable[[int, Sequence[Task], ModelVersion], list[Drafted]]
"""Gives, for tasks of a project, a draft by the version or the reason why there is none, in order."""


def drafter(settings: Settings, store: Store, champions: Champions) -> Drafter:
    """Drafts outside the web process, the same as /predict makes, by one version.

    It loads the version only for tasks that it has not drafted before, or where there are corrections to reuse.
    """
    reuse = Reuse(store, champions) if settings.reuse == "on" else None
    drafting = Drafting(store, Images(settings), champions, settings.blind_share, reuse, settings.withhold_below)

    def draft(project_id: int, tasks: Sequence[Task], version: ModelVersion) -> list[Drafted]:
        if not champions.serving(project_id):
            made = store.get_drafts(project_id, [task.id for task in tasks], version.name)
            known: dict[_Key, Drafted] = {(each.task_id, each.image): each for each in made}
            if all(_key(task) in known for task in tasks) and not (reuse and store.revision(project_id)):
                return [known[_key(task)] for task in tasks]
            champions.serve(project_id, version.name, version.checkpoint, version.digest)
        if reuse:
            reuse.update(project_id, version.name)
        return drafting.draft(project_id, tasks, version.name, came=math.inf)  # nobody waits

    return draft


def _reason(task: Task, error: object) -> str:
    """Why a task has no draft, in a sentence."""
    if isinstance(error, ImageError | DataError | ModelUnavailableError):
        return str(error)
    log.error("The image of task %d of project %d failed.", task.id, task.project_id, exc_info=error)  # type: ignore[arg-type]
    return _UNEXPECTED.format(type(error).__name__)


def _count(tasks: Sequence[Task], found: Mapping[_Key, Drafted], stored: Collection[_Key]) -> None:
    """Count what these tasks are answered with."""
    results: Counter[str] = Counter()
    for task in tasks:
        drafted = found[_key(task)]
        if isinstance(drafted, DraftFailure):
            results["none"] += 1
        elif drafted.from_task is not None:
            results["correction"] += 1
        else:
            results["stored" if _key(task) in stored else "new"] += 1
    metrics.predicted(results)
    known = sum(_key(task) in stored for task in tasks)
    metrics.looked_up("drafts", known, len(tasks) - known)


def _late(task: Task, now: str) -> DraftFailure:
    reason = f"Its turn did not come within {BUDGET_SECONDS:g} seconds; it {now}."
    return DraftFailure(task.project_id, task.id, reason)


def _key(task: Task) -> _Key:
    return task.id, task.image
