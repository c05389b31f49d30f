"""Refreshes drafts: after a promotion or rollback, unlabelled tasks get drafts by the new champion.

A project is in one of two modes, which Label Studio knows. *Live*: it asks the backend for the drafts of each task it
opens. *Stored*: it shows and orders by the predictions stored under `project.model_version`. In live mode only tasks
with a draft by another version get a new one, oldest version first; the others are drafted when they are opened. In
stored mode every unlabelled task gets one, and once all are stored the project is switched to the version.

Old drafts are deleted last, and only after OPEN_SECONDS. Label Studio's API does not show which tasks are open in an
editor, and it refuses an annotation whose `parent_prediction` was deleted meanwhile. Once an annotator has typed, Label
Studio has a draft of the annotation: such tasks keep all their predictions and are checked again later. Predictions by
other models are never touched.

A job runs for about a minute and stores its progress after every batch; the next job continues there, and predictions
that a killed job had stored are found in Label Studio. Cost, with b tasks a batch (100, or what ten seconds of the rate
allow): 1/b requests a task to list it, 1/b to store its draft, and later 2/b to check for annotation drafts and 1 for
each deleted prediction, as Label Studio deletes one at a time or all of a task. A job begins with 1 to 3 requests.
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
from backend.domain.corrections import Draft, DraftFailure
from backend.domain.errors import CaptionerError, LabelStudioError
from backend.drafts.modes import mode_of
from backend.label_studio import wire
from backend.label_studio.client import FULL_TASKS, LabelStudio
from backend.label_studio.payload import time_of
from backend.serving.champions import BATCH
from backend.serving.drafting import Drafter, drafter
from backend.settings import Settings
from backend.store.database import chunks, now
from backend.store.lease import Lease
from backend.store.refreshes import DONE, DRAFTING, OPEN_SECONDS, STORED, TIDYING, WAITING, RefreshState
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from labeling_config import LabelingConfigError

log = logging.getLogger(__name__)

RUN_SECONDS = 60.0
"""A job ends after so long, because retrains may wait for its worker; the next one continues."""
RETRY_SECONDS = 60.0
BATCH_SECONDS = 10.0
"""A batch takes at most so long at the rate, and so does stopping."""
_NAP_SECONDS = 2.0


class EndedError(Exception):
    """This job must end: its minute is over, it was stopped, or another version has become champion."""


def refresh_if_possible(settings: Settings, store: Store, project_id: int) -> None:
    """Refresh the project's drafts for about a minute; that Label Studio cannot be reached is only recorded."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return
    registry = Registry(store)
    champion = registry.champion(project_id)
    claimed = store.claim_refresh(project_id) if champion else None
    if champion is None or claimed is None:
        log.info("Project %d: a refresh runs already or was stopped, or there is no model.", project_id)
        return
    client = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
    Run(client, store, registry, drafter(settings, store), champion, settings.refresh_per_minute, claimed).work()


@dataclass
class Run:
    """One job's run over a project's drafts."""

    client: LabelStudio
    store: Store
    registry: Registry
    draft: Drafter
    champion: ModelVersion
    per_minute: int
    state: RefreshState
    seconds_left: float = RUN_SECONDS
    _began: float = field(default_factory=lambda: time.monotonic())
    _counted: int = 0

    def work(self) -> None:
        """Run until all is done or the time is up; an error is recorded, and a later job tries again."""
        project_id = self.state.project_id
        try:
            # loading a model and drafting a batch take as long as they take
            with Lease(partial(self.store.renew_refresh, project_id, self.state.lease)):
                self._refresh()
        except EndedError:
            log.info("The drafts of project %d: this run has ended.", project_id)
        except CaptionerError as error:
            log.warning("The drafts of project %d cannot be refreshed now: %s", project_id, error)
            self._fail(str(error))
        except Exception as error:
            log.exception("The drafts of project %d cannot be refreshed now.", project_id)
            self._fail(f"Refreshing them failed ({error!r}); the worker's log tells where.")
        finally:  # also where the worker is told to stop
            self.store.save_refresh(replace(self.state, heartbeat_at=None))

    def _refresh(self) -> None:
        if self.store.is_untidy(self.state):
            self._save(state=TIDYING, of_version=None, after_task=0)
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
        self._save(mode=mode, failure=None, checked_to=self.state.checked_to if stored else 0)
        if stored:
            newest = self.store.newest_task(self.state.project_id)
            self._draft(self.state.checked_to)
            self._save(checked_to=max(newest, self.state.checked_to))
            self._switch(project.get("model_version"))
        if self.state.state == DRAFTING:
            if not stored:
                self._draft_stale()
            self._wait()
        elif self.state.state == WAITING and self.state.due_at and self.state.due_at <= now():
            self._save(state=TIDYING)
        if self.state.state == TIDYING:
            before, begun_at = self.state.stored, now()
            # Label Studio's count of predictions is too low where it asked for two at once, as it does in live mode
            self._delete_old(several=True) if stored else self._delete_old(version=self.champion.name)
            if not stored:  # the old version may have drafted some tasks meanwhile
                self._save(of_version=None, after_task=0, failed=0)
                self._draft_stale()
            if self.state.being_edited or self.state.stored > before:
                self._wait()
            else:
                self._save(state=DONE, due_at=begun_at)

    def _draft_stale(self) -> None:
        """Store a draft for every unlabelled task that has one by another version, oldest version first."""
        shown = self.client.model_versions(self.state.project_id)
        stale = [name for name in self.versions if name in shown and name != self.champion.name]
        if self.state.of_version in stale:
            stale = stale[stale.index(self.state.of_version) :]
        for name in stale:
            self._draft(self.state.after_task if name == self.state.of_version else 0, name)

    def _draft(self, after: int, version: str | None = None) -> None:
        """Store drafts for tasks after that id; with `version`, only for those with a draft by it."""
        while True:
            began = time.monotonic()
            tasks, following = self._page(after, version=version)
            if not tasks:
                return
            stored, lacking = self._store([task for task in tasks if not _of(task, self.champion.name)])
            after = tasks[-1]["id"]
            place = {"of_version": version, "after_task": after} if version else {"checked_to": after}
            self._save(
                **place,
                checked=self.state.checked + len(tasks),
                total=self.state.checked + following,
                stored=self.state.stored + stored,
                failed=self.state.failed + lacking - stored,
            )
            self._rest(began, stored)
            self._end_in_time()

    def _store(self, entries: Sequence[Any]) -> tuple[int, int]:
        """Draft these tasks and store the drafts in Label Studio; how many were stored, of how many tasks."""
        unreadable: set[int] = set()
        tasks = wire.task_summaries(wire.readable(entries, unreadable), self.state.project_id, self.tags)
        self._leave_out(unreadable)
        made: list[dict[str, Any]] = []
        for some in chunks(tasks, BATCH):
            drafted = self.draft(self.state.project_id, some, self.champion)
            found = [draft for draft in drafted if isinstance(draft, Draft)]
            made += [{"task": draft.task_id, **wire.prediction(draft, self.tags)} for draft in found]
            self._save()
        return self.client.import_predictions(self.state.project_id, made), len(entries)

    def _switch(self, shown: str | None) -> None:
        """Have Label Studio show the version, unless none of its drafts is stored: Label Studio would refuse it."""
        version = self.champion.name
        if shown != version:
            if version not in self.client.model_versions(self.state.project_id):
                return
            self.client.update_project(self.state.project_id, model_version=version)
            log.info("Project %d shows the drafts stored by %s.", self.state.project_id, version)
        self._save(mode=STORED, wanted=None)

    def _delete_old(self, **chosen: Any) -> None:
        """Delete superfluous predictions of unlabelled tasks, and count the tasks that annotators are editing."""
        after = self.state.after_task if self.state.of_version is None else 0
        being_edited = self.state.being_edited if after else 0
        while True:
            began = time.monotonic()
            tasks, _ = self._page(after, **chosen)
            if not tasks:
                break
            old = {task["id"]: gone for task in tasks if (gone := self._superfluous(task))}
            begun = self.client.tasks_being_edited(self.state.project_id, list(old))
            begun |= {task["id"] for task in tasks if task["id"] in old and _is_fresh(task, old[task["id"]])}
            being_edited += len(begun)
            deleted = [id_ for task_id, gone in old.items() if task_id not in begun for id_ in gone]
            for id_ in deleted:
                self.client.delete_prediction(id_)
                self.state = replace(self.state, deleted=self.state.deleted + 1)
                if time.monotonic() - self._began >= _NAP_SECONDS:
                    self._save()
            after = tasks[-1]["id"]
            self._save(being_edited=being_edited, of_version=None, after_task=after)
            self._rest(began, len(deleted))
            self._end_in_time()
        self._save(being_edited=being_edited, after_task=0)

    def _superfluous(self, task: Mapping[str, Any]) -> list[int]:
        """Ids of the task's predictions by other versions, and the champion's duplicates; none without a new one."""
        current = sorted(_of(task, self.champion.name))
        if not current:
            return []
        others = [id_ for name in self.versions if name != self.champion.name for id_ in _of(task, name)]
        return [*others, *current[1:]]

    def _page(self, after: int, **chosen: Any) -> tuple[list[Any], int]:
        size, unreadable = max(1, min(FULL_TASKS, int(self.per_minute * BATCH_SECONDS / 60))), set[int]()
        page = self.client.unlabelled(self.state.project_id, after, size, unreadable, **chosen)
        self._leave_out(unreadable)
        return page

    def _leave_out(self, unreadable: set[int]) -> None:
        """Store that these tasks get no draft, so that the status names them."""
        project_id = self.state.project_id
        failures = [DraftFailure(project_id, id_, "It cannot be read from Label Studio.") for id_ in sorted(unreadable)]
        self.store.add_failures(project_id, failures)

    def _wait(self) -> None:
        due_at = now() + timedelta(seconds=OPEN_SECONDS)
        self._save(state=WAITING, due_at=due_at, of_version=None, after_task=0)

    def _rest(self, began: float, tasks: int) -> None:
        """Sleep until the time that so many tasks take at the rate has passed."""
        until = began + tasks * 60 / self.per_minute
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_SECONDS))
            self._save()

    def _save(self, **changes: Any) -> None:
        """Store the progress. Raises EndedError where this job must end."""
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
        """Called between batches only, so that each job finishes at least one."""
        if self.seconds_left <= 0:
            raise EndedError

    def _fail(self, failure: str) -> None:
        due_at = now() + timedelta(seconds=RETRY_SECONDS)
        kept = self.state.due_at if self.state.state == WAITING and self.state.due_at else due_at
        self.state = replace(self.state, failure=failure, due_at=max(kept, due_at))


def _is_fresh(task: Mapping[str, Any], ids: Sequence[int]) -> bool:
    """Whether one of these predictions is so new that the editor it was made for may be open."""
    made = [time_of(each.get("created_at")) for each in task.get("predictions") or [] if each["id"] in ids]
    return any(moment and now() - moment < timedelta(seconds=OPEN_SECONDS) for moment in made)


def _of(task: Mapping[str, Any], version: str) -> list[int]:
    """Ids of the task's predictions by the version."""
    return [each["id"] for each in task.get("predictions") or [] if each.get("model_version") == version]
