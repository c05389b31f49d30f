"""Drafts made anew: after a promotion or rollback, tasks nobody has labelled yet get those of the version that serves.

A project is in one of two modes, and Label Studio says in which: *live*, it asks the backend for the drafts of each
task it opens; or *stored*, it shows and orders by what is stored under `project.model_version`. Live, only tasks that
hold a draft of another version get a new one, oldest version first; the others are asked for when they are opened.
Stored, every unlabelled task gets one, and when all are there the project is switched to the version.

Old drafts are deleted last, and not before OPEN_SECONDS have passed. Label Studio tells nobody which tasks are open in
an editor (its locks are in no answer), and refuses to take in an annotation whose `parent_prediction` has been deleted
meanwhile. Where somebody has typed, Label Studio has a draft of the annotation: such tasks keep all their predictions,
and are looked at again later. What other models have predicted is never touched.

A job works for about a minute and says after every batch how far it is; the next goes on from there, and what a killed
one had stored is seen in Label Studio. The price, with b tasks a batch (100, or what ten seconds of the rate allow):
1/b requests a task to list it, 1/b to store its draft, and later 2/b to see whom the task belongs to and 1 for each
prediction deleted, as Label Studio deletes one at a time or all of a task. A job begins with 1 to 3 requests.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import labeling_config
from backend.domain.corrections import Draft
from backend.domain.errors import CaptionerError, LabelStudioError
from backend.drafts.modes import mode_of
from backend.label_studio import wire
from backend.label_studio.client import FULL_TASKS, LabelStudio
from backend.serving.champions import BATCH
from backend.serving.offline import Draw, drafts
from backend.settings import Settings
from backend.store.database import chunks, now
from backend.store.lease import Lease
from backend.store.refreshes import DONE, DRAFTING, STORED, TIDYING, WAITING, RefreshState
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from labeling_config import LabelingConfigError

log = logging.getLogger(__name__)

RUN_SECONDS = 60.0
"""What a job takes of a worker that may have retrains to do; the next one goes on."""
OPEN_SECONDS = 600.0
"""How long a task may have been open in an editor, and nothing typed, before its old draft is deleted."""
RETRY_SECONDS = 60.0
BATCH_SECONDS = 10.0
"""What a batch takes at most of the rate, so that stopping does not take longer."""
_NAP_SECONDS = 2.0


class EndedError(Exception):
    """This job has nothing more to do: its minute is over, it was stopped, or another version has come to serve."""


def refresh_if_possible(settings: Settings, store: Store, project_id: int) -> None:
    """Go on with the project's drafts for about a minute. That Label Studio cannot be asked now is only noted."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return
    registry = Registry(store)
    champion = registry.champion(project_id)
    claimed = store.claim_refresh(project_id) if champion else None
    if champion is None or claimed is None:
        log.info("The drafts of project %d are being made, shall not be, or there is no model for them.", project_id)
        return
    run = Run(
        client=LabelStudio(settings.label_studio_url, settings.label_studio_api_key),
        store=store,
        registry=registry,
        draw=drafts(settings, store),
        champion=champion,
        per_minute=settings.refresh_per_minute,
        state=claimed,
    )
    run.work()


@dataclass
class Run:
    """What one job does for a project: a minute of it."""

    client: LabelStudio
    store: Store
    registry: Registry
    draw: Draw
    champion: ModelVersion
    per_minute: int
    state: RefreshState
    seconds_left: float = RUN_SECONDS
    _began: float = field(default_factory=lambda: time.monotonic())
    _counted: int = 0

    def work(self) -> None:
        """Go on until all is done or the time is up; what goes wrong is noted, and tried again later."""
        project_id = self.state.project_id
        # loading a model and drafting a batch take as long as they take
        renew = partial(self.store.renew_refresh, project_id, self.state.lease)
        try:
            with Lease(renew):
                self._go_on()
        except EndedError:
            log.info("The drafts of project %d: this run is over.", project_id)
        except CaptionerError as error:
            log.warning("The drafts of project %d cannot be made anew now: %s", project_id, error)
            self._fail(str(error))
        except Exception as error:
            log.exception("The drafts of project %d cannot be made anew now.", project_id)
            self._fail(f"Making them failed ({error!r}); the worker's log tells where.")
        finally:  # also where the worker is told to stop
            self.store.save_refresh(replace(self.state, heartbeat_at=None))

    def _go_on(self) -> None:
        project = self.client.project(self.state.project_id)
        try:
            self.tags = labeling_config.parse(project.get("label_config") or "")
        except LabelingConfigError as error:
            raise LabelStudioError(f"The captions cannot be stored: {error}") from error
        self.versions = [version.name for version in reversed(self.registry.versions(self.state.project_id))]
        mode = mode_of(project, self.versions)
        if self.state.version != self.champion.name:
            begun = RefreshState(self.state.project_id, wanted=self.state.wanted, version=self.champion.name)
            self.state = replace(begun, state=DRAFTING, begun_at=now(), lease=self.state.lease)
        stored = STORED in {mode, self.state.wanted}
        self._note(mode=mode, failure=None, checked_to=self.state.checked_to if stored else 0)
        if stored:
            self._draft_all()
            self._switch(project.get("model_version"))
        if self.state.state == DRAFTING:
            if not stored:
                self._draft_stale()
            self._wait()
        elif self.state.state == WAITING and self.state.due_at and self.state.due_at <= now():
            self._note(state=TIDYING)
        if self.state.state == TIDYING:
            before = self.state.stored
            self._tidy()
            if not stored:  # while drafts were made, the old version may have served some
                self._note(of_version=None, after_task=0, failed=0)
                self._draft_stale()
            if self.state.being_edited or self.state.stored > before:
                self._wait()
            else:
                self._note(state=DONE)

    def _draft_all(self) -> None:
        """Store a draft for every unlabelled task from where the last look ended."""
        newest = self.store.newest_task(self.state.project_id)
        self._draft(self.state.checked_to)
        self._note(checked_to=max(newest, self.state.checked_to))

    def _draft_stale(self) -> None:
        """Store a draft for every unlabelled task that holds one of another version, from the oldest version on."""
        held = self.client.model_versions(self.state.project_id)
        stale = [name for name in self.versions if name in held and name != self.champion.name]
        if self.state.of_version in stale:
            stale = stale[stale.index(self.state.of_version) :]
        for name in stale:
            self._draft(self.state.after_task if name == self.state.of_version else 0, name)

    def _draft(self, after: int, version: str | None = None) -> None:
        """The same for tasks after that one; with `version`, for those that hold a draft of it."""
        while True:
            began = time.monotonic()
            tasks, following = self._page(after, version=version)
            if not tasks:
                return
            stored, lacking = self._store([task for task in tasks if not _of(task, self.champion.name)])
            after = tasks[-1]["id"]
            place = {"of_version": version, "after_task": after} if version else {"checked_to": after}
            self._note(
                **place,
                checked=self.state.checked + len(tasks),
                total=self.state.checked + following,
                stored=self.state.stored + stored,
                failed=self.state.failed + lacking - stored,
            )
            self._rest(began, stored)
            self._end_in_time()

    def _store(self, entries: Sequence[Any]) -> tuple[int, int]:
        """Draft these tasks and store that in Label Studio; how many of how many were stored."""
        tasks = wire.heads(entries, self.state.project_id, self.tags)
        made: list[dict[str, Any]] = []
        for some in chunks(tasks, BATCH):
            drafted = self.draw(self.state.project_id, some, self.champion)
            found = [draft for draft in drafted if isinstance(draft, Draft)]
            made += [{"task": draft.task_id, **wire.prediction(draft, self.tags)} for draft in found]
            self._note()
        return self.client.import_predictions(self.state.project_id, made), len(tasks)

    def _switch(self, shown: str | None) -> None:
        """Have Label Studio show the version, unless nothing has been drafted by it: it knows no such version then."""
        version = self.champion.name
        if shown != version:
            if version not in self.client.model_versions(self.state.project_id):
                return
            self.client.update_project(self.state.project_id, model_version=version)
            log.info("Project %d shows the drafts stored by %s.", self.state.project_id, version)
        self._note(mode=STORED, wanted=None)

    def _tidy(self) -> None:
        """Delete what is no more needed of the predictions of unlabelled tasks, and count those that are left alone."""
        after, being_edited = 0, 0
        while True:
            began = time.monotonic()
            tasks, _ = self._page(after, several=True)
            if not tasks:
                break
            old = {task["id"]: gone for task in tasks if (gone := self._superfluous(task))}
            begun = self.client.drafted_by_people(self.state.project_id, list(old))
            being_edited += len(begun)
            deleted = [id_ for task_id, gone in old.items() if task_id not in begun for id_ in gone]
            for id_ in deleted:
                self.client.delete_prediction(id_)
                self._note(deleted=self.state.deleted + 1)
            after = tasks[-1]["id"]
            self._note(being_edited=being_edited)
            self._rest(began, len(deleted))
            self._end_in_time()
        self._note(being_edited=being_edited)

    def _superfluous(self, task: Mapping[str, Any]) -> list[int]:
        """Ids of its predictions by other versions of ours, and of further ones by this; none where it lacks this."""
        current = sorted(_of(task, self.champion.name))
        if not current:
            return []
        others = [id_ for name in self.versions if name != self.champion.name for id_ in _of(task, name)]
        return [*others, *current[1:]]

    def _page(self, after: int, **chosen: Any) -> tuple[list[Any], int]:
        size = max(1, min(FULL_TASKS, int(self.per_minute * BATCH_SECONDS / 60)))
        return self.client.unlabelled(self.state.project_id, after, size, **chosen)

    def _wait(self) -> None:
        due_at = now() + timedelta(seconds=OPEN_SECONDS)
        self._note(state=WAITING, due_at=due_at, of_version=None, after_task=0)

    def _rest(self, began: float, tasks: int) -> None:
        """Until as long has passed as so many tasks take at the rate."""
        until = began + tasks * 60 / self.per_minute
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_SECONDS))
            self._note()

    def _note(self, **changes: Any) -> None:
        """Say how far it is. Raises EndedError where this job shall not go on."""
        requests, seconds = self.client.requests - self._counted, time.monotonic() - self._began
        self._counted, self._began = self.client.requests, time.monotonic()
        self.seconds_left -= seconds
        self.state = replace(
            self.state,
            heartbeat_at=now(),
            requests=self.state.requests + requests,
            seconds=self.state.seconds + seconds,
            **changes,
        )
        if not self.store.save_refresh(self.state):
            raise EndedError
        champion = self.registry.champion(self.state.project_id)
        if champion is None or champion.name != self.champion.name:
            raise EndedError

    def _end_in_time(self) -> None:
        """Only between batches: loading a model may take the time of one, and each job is to get on."""
        if self.seconds_left <= 0:
            raise EndedError

    def _fail(self, failure: str) -> None:
        due_at = now() + timedelta(seconds=RETRY_SECONDS)
        kept = self.state.due_at if self.state.state == WAITING and self.state.due_at else due_at
        self.state = replace(self.state, failure=failure, due_at=max(kept, due_at))


def _of(task: Mapping[str, Any], version: str) -> list[int]:
    """Ids of the task's predictions by the version."""
    return [each["id"] for each in task.get("predictions") or [] if each.get("model_version") == version]
