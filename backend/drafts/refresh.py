"""Refreshes drafts: after a promotion or rollback, unlabelled tasks get drafts by the new champion; and where a person
wants it, every unlabelled task gets a stored draft.

A project is in one of two modes, which Label Studio knows. *Live*: it asks the backend for the drafts of each task it
opens. *Stored*: it shows and orders by the predictions stored under `project.model_version`. In live mode only tasks
with a draft by another version get a new one, oldest version first; the others are drafted when they are opened. In
stored mode, and for `captioner preannotate`, every unlabelled task gets one, and once all are stored the project is
switched to the version.

Any number of jobs draft a project together, each chunk after chunk (drafts/chunks.py). What follows one job does alone:
it switches, makes the selection that a person ordered (drafts/selection/), waits for OPEN_SECONDS and then deletes old
drafts (drafts/tidy.py). A job runs for about a minute and begins with 1 to 3 requests; the next one continues.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import Any

import labeling_config
from backend.domain.errors import CaptionerError, LabelStudioError
from backend.drafts.chunks import Drafting
from backend.drafts.job import RUN_SECONDS, EndedError, Job
from backend.drafts.modes import mode_of
from backend.drafts.selection.candidates import chooser
from backend.drafts.selection.making import Choose, delete_ended, make, renew
from backend.drafts.selection.shown import end_where_another_is_shown, stays, switch
from backend.drafts.tidy import delete_old
from backend.images.sharing import Sharing
from backend.label_studio.client import LabelStudio
from backend.serving.champions import Champions
from backend.serving.drafting import Drafter, drafter
from backend.settings import Settings
from backend.store.database import now
from backend.store.drafts.refreshes import (
    DONE,
    DRAFTING,
    OPEN_SECONDS,
    STORED,
    TIDYING,
    WAITING,
    RefreshState,
    drafts_every,
)
from backend.store.lease import Lease, has_come
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from labeling_config import LabelingConfigError

log = logging.getLogger(__name__)

_KEPT = {"project_id", "wanted", "per_minute", "stopped", "lease", "heartbeat_at", "jobs", "read_at"}
"""What stays of a refresh when another version begins."""


def refresh_if_possible(settings: Settings, store: Store, project_id: int) -> None:
    """Refresh the project's drafts for about a minute; that Label Studio cannot be reached is only recorded."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return
    registry = Registry(store)
    champion = registry.champion(project_id)
    if champion is None:
        log.info("Project %d: there is no model.", project_id)
        return
    client = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
    compiled, fetch = settings.data_dir / "compiled", Sharing(settings, store).fetch_checkpoint
    champions = Champions(settings.device, compiled=compiled, fetch=fetch)  # loaded once, where it is needed
    draft, choose = drafter(settings, store, champions), chooser(settings, store, champions)
    Run(client, store, registry, draft, champion, settings.refresh_per_minute, project_id, choose=choose).work()


class Run:
    """One job's run over a project's drafts."""

    def __init__(
        self,
        client: LabelStudio,
        store: Store,
        registry: Registry,
        draft: Drafter,
        champion: ModelVersion,
        per_minute: int,
        project_id: int,
        seconds: float = RUN_SECONDS,
        choose: Choose = lambda job, selection: (),
    ) -> None:
        self._draft, self._per_minute, self._choose = draft, per_minute, choose
        self._job = Job(client, store, registry, project_id, champion, seconds)

    def work(self) -> None:
        """Run until all is done or the time is up; an error is recorded, and a later job tries again."""
        job = self._job
        job.store.begin_job(job.project_id)
        try:
            # loading a model and drafting a batch take as long as they take
            with Lease(job.renew):
                self._refresh()
        except EndedError:
            log.info("The drafts of project %d: this run has ended.", job.project_id)
        except CaptionerError as error:
            log.warning("The drafts of project %d cannot be refreshed now: %s", job.project_id, error)
            job.fail(str(error))
        except Exception as error:
            log.exception("The drafts of project %d cannot be refreshed now.", job.project_id)
            job.fail(f"Refreshing them failed ({error!r}); the worker's log tells where.")
        finally:  # also where the worker is told to stop
            job.leave(done=job.chunk is not None and job.chunk.after_task >= job.chunk.last_task)
            job.give_back()

    def _refresh(self) -> None:
        job = self._job
        state = job.store.refresh_state(job.project_id)
        is_shared = state.state == DRAFTING and state.version == job.champion.name and not state.stopped
        if not job.claim() and not is_shared:
            log.info("Project %d: a refresh runs already or was stopped.", job.project_id)
            return
        project = job.client.project(job.project_id)
        try:
            tags = labeling_config.parse(project.get("label_config") or "")
        except LabelingConfigError as error:
            raise LabelStudioError(f"The captions cannot be stored: {error}") from error
        versions = [version.name for version in reversed(job.registry.versions(job.project_id))]
        mode = mode_of(project, versions)
        if job.state:
            state = self._begin(job.state, mode)
        every = drafts_every(mode, state.wanted)
        per_minute = state.per_minute if state.wanted else self._per_minute
        drafting = Drafting(job, self._draft, tags, versions, every, per_minute)
        if state.state == DRAFTING:
            job.give_back()  # others draft as well
        drafting.work()
        if job.store.chunks(job.project_id):
            return  # others are at it
        if not job.state:
            if not job.claim():
                return
            project = job.client.project(job.project_id)  # another job may have switched it meanwhile
        assert job.state
        if job.state.version == job.champion.name and job.state.listed:
            self._finish(drafting, project.get("model_version"))

    def _begin(self, state: RefreshState, mode: str) -> RefreshState:
        """Begin with the champion's list where another version's was the last, and go on where tasks have come."""
        job = self._job
        if job.store.is_untidy(state):
            state = job.save(state=TIDYING, of_version=None, after_task=0)
        changes: dict[str, Any] = {"mode": mode, "failure": None}
        if state.version != job.champion.name:
            fresh = vars(RefreshState(job.project_id, version=job.champion.name, state=DRAFTING, begun_at=now()))
            return job.save(**{name: value for name, value in fresh.items() if name not in _KEPT} | changes)
        if not drafts_every(mode, state.wanted):
            changes["checked_to"] = 0
        elif job.store.newest_task(job.project_id) > state.checked_to:
            changes["listed"] = False
        return job.save(**changes)

    def _finish(self, drafting: Drafting, shown: str | None) -> None:
        """What follows when every draft is stored."""
        job, wait = self._job, partial(_wait, self._job)
        state = job.save()
        stored = STORED in {state.mode, state.wanted}
        end_where_another_is_shown(job.store, job.project_id, shown, stored)
        if stored:
            self._switch(shown)
        elif state.wanted:
            job.save(wanted=None)
        if state.state == DRAFTING:
            wait()
        if stored:
            make(job, self._choose)
        delete_ended(job, self._per_minute)
        if state.state == WAITING and state.due_at and has_come(state.due_at, now(), OPEN_SECONDS):
            state = job.save(state=TIDYING)
        if state.state == TIDYING:
            before, begun_at = state.stored, now()
            # Label Studio's count of predictions is too low where it asked for two at once, as it does in live mode
            chosen: dict[str, Any] = {"several": True} if stored else {"version": job.champion.name}
            delete_old(job, drafting.versions, self._per_minute, **chosen)
            if not stored:  # the old version may have drafted some tasks meanwhile
                job.save(of_version=None, after_task=0, failed=0, listed=False)
                drafting.work()
            state = job.save()
            if state.being_edited or state.stored > before:
                wait()
            else:
                job.save(state=DONE, due_at=begun_at)

    def _switch(self, shown: str | None) -> None:
        """Have Label Studio show the version, unless none of its drafts is stored: Label Studio would refuse it. A
        selection stays, of older drafts until there is another."""
        job, version = self._job, self._job.champion.name
        renew(job.store, job.project_id, version)
        if shown != version and not stays(job.store, job.project_id, shown, version):
            if version not in job.client.model_versions(job.project_id):
                return
            switch(job.client, job.store, job.project_id, shown, version)
            log.info("Project %d shows the drafts stored by %s.", job.project_id, version)
        job.save(mode=STORED, wanted=None)


def _wait(job: Job) -> None:
    due_at = now() + timedelta(seconds=OPEN_SECONDS)
    job.save(state=WAITING, due_at=due_at, of_version=None, after_task=0)
