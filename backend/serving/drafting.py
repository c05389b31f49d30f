"""Drafts tasks: a stored draft where there is one, else fetch the image, caption it and store the draft."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from backend.domain.corrections import Draft, DraftFailure, Task
from backend.domain.errors import ImageError, ModelUnavailableError
from backend.images.cache import Images, LocalImage
from backend.serving.champions import BATCH, Champions, Loader
from backend.serving.fetchers import Fetchers
from backend.serving.reuse import Reuse
from backend.settings import Settings
from backend.store.registry import ModelVersion
from backend.store.store import Project, Store
from training.data.manifest import BLIND

log = logging.getLogger(__name__)

NO_MODEL = "There is no model for this project yet."
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
    ) -> None:
        self._store = store
        self._images = images
        self._champions = champions
        self._blind_share = blind_share
        self._reuse = reuse
        self._fetchers = Fetchers()

    def draft(
        self, project_id: int, tasks: Sequence[Task], version: str | None, came: float | None = None
    ) -> list[Drafted]:
        """A draft or the reason why there is none, for each task in order.

        A task that this version has drafted before gets the same draft again, so that concurrent requests agree. The
        draft of a blind task has a score and no text.
        The caller keeps `version` loaded; None means that nothing serves the project, which is not recorded as a
        failure. `came` is when the request came, by `time.monotonic` (default: now); its time budget began then.
        """
        if version is None:
            return [DraftFailure(project_id, task.id, NO_MODEL) for task in tasks]
        deadline = (time.monotonic() if came is None else came) + BUDGET_SECONDS
        done: dict[_Key, Drafted] = dict(self.known(project_id, tasks, version))
        todo = [task for task in dict.fromkeys(tasks) if _key(task) not in done]
        if todo:
            made = self._make(project_id, todo, version, deadline)
            # Read back: another request may have drafted some of them meanwhile, and the first draft counts.
            done |= made | self.known(project_id, todo, version)
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

    def _make(self, project_id: int, tasks: Sequence[Task], version: str, deadline: float) -> dict[_Key, Drafted]:
        """New drafts and failures, stored batch by batch, so that those before the deadline are not made again."""
        project = self._store.get_project(project_id)
        made: dict[_Key, Drafted] = {}
        with self._fetchers.fetching(lambda task: self._fetch(task, project), tasks) as images:
            fetched = list(zip(tasks, images, strict=True))
            for start in range(0, len(fetched), BATCH):
                if time.monotonic() >= deadline:
                    late = {_key(task): _late(task) for task, _ in fetched[start:]}
                    self._record(project_id, late)
                    return made | late
                made |= self._caption(project_id, fetched[start : start + BATCH], version, deadline)
        return made

    def _fetch(self, task: Task, project: Project | None) -> LocalImage:
        if task.image is None:
            raise ImageError("Its data has no image under the key that the labelling config shows.")
        return self._images.local(task.image, task, project)

    def _caption(
        self, project_id: int, fetched: Sequence[tuple[Task, Future[LocalImage]]], version: str, deadline: float
    ) -> dict[_Key, Drafted]:
        found: dict[_Key, Drafted] = {}
        ready: list[tuple[Task, LocalImage]] = []
        for task, future in fetched:
            try:
                ready.append((task, future.result(max(0.0, deadline - time.monotonic()))))
            except ImageError as error:
                found[_key(task)] = DraftFailure(project_id, task.id, str(error))
            except TimeoutError:
                found[_key(task)] = _late(task)
            except Exception as error:  # one task must not fail the others
                log.exception("The image of task %d of project %d failed.", task.id, project_id)
                found[_key(task)] = DraftFailure(project_id, task.id, _UNEXPECTED.format(type(error).__name__))
        features: dict[str, bytes] = {}
        try:
            retrieval = self._reuse.retrieval(project_id, version) if self._reuse and ready else None
            captions = self._champions.caption(version, [image.path for _, image in ready], retrieval)
            places = self._store.place(project_id, [image.sha256 for _, image in ready], self._blind_share)
            for (task, image), caption in zip(ready, captions, strict=True):
                if isinstance(caption, Exception):
                    found[_key(task)] = DraftFailure(project_id, task.id, str(caption))
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
        except ModelUnavailableError as error:
            found |= {_key(task): DraftFailure(project_id, task.id, str(error)) for task, _ in ready}
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
        return drafting.draft(project_id, tasks, version.name)

    return draft


def _late(task: Task) -> DraftFailure:
    reason = f"Its turn did not come within {BUDGET_SECONDS:g} seconds; ask again for the rest."
    return DraftFailure(task.project_id, task.id, reason)


def _key(task: Task) -> _Key:
    return task.id, task.image
