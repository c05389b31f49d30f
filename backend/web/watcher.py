"""Threads of each web process: one loads promoted champions, and queues in Redis what SQL says is pending; one follows
the corrections; one keeps caches small; one uploads versions that the store lacks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Protocol

from backend.corrections.inbox import Inbox
from backend.domain.errors import CaptionerError, ModelUnavailableError, QueueError
from backend.drafts import calibrating, queueing, waiting
from backend.drafts.selection.shown import end_where_labelled
from backend.images import space
from backend.images.sharing import Sharing
from backend.queue import Queue
from backend.retraining.tracking.queueing import Tracking
from backend.serving.champions import Champions
from backend.serving.reuse import Reuse
from backend.settings import Settings
from backend.store.database import now
from backend.store.keeping.forgetting import digests
from backend.store.lease import LEASE_SECONDS
from backend.store.registry import Registry
from backend.store.store import Store

log = logging.getLogger(__name__)

CHAMPION_SECONDS = 0.2
"""One query that reads two small columns: a promotion is noticed before anybody waits for it."""
CORRECTIONS_SECONDS = 1.0
PENDING_SECONDS = 5.0
SCHEDULE_SECONDS = 15.0
COUNT_SECONDS = 60.0
"""Between two counts of all corrections, which take longer the more there are."""
SPACE_SECONDS = 600.0
SHARE_SECONDS = 15.0
"""Between two searches for versions that the store lacks; one query where none is new."""
RETRY_LOAD_SECONDS = 30.0


class WatchedServices(Protocol):
    """The services that the watcher uses."""

    settings: Settings
    store: Store
    registry: Registry
    queue: Queue
    inbox: Inbox
    sharing: Sharing
    champions: Champions
    reuse: Reuse | None


class Watcher:
    """Checks for promoted champions and new corrections at least every second, and for pending jobs every few
    seconds."""

    def __init__(self, services: WatchedServices) -> None:
        self._services = services
        self.loaded = threading.Event()  # set once the champions from before the start are loaded, or cannot be
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name="watcher", daemon=True),
            threading.Thread(target=self._follow, name="corrections", daemon=True),
            threading.Thread(target=self._reclaim, name="space", daemon=True),
            threading.Thread(target=self._share, name="sharing", daemon=True),
        ]
        self._failed: dict[tuple[int, str], float] = {}
        self._errors: dict[str, str] = {}
        self._tracking = Tracking()
        self._counted: dict[int, int] = {}  # the event up to which the corrections of a project are counted

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def load_champions(self) -> None:
        """Load the champion of each project and let it serve. Requests are answered by the old one meanwhile."""
        wanted, assigned = self._services.registry.champions(), self._services.champions.assigned()
        known = digests(self._services.store, set(wanted.values()))
        for project_id, version in wanted.items():
            changed = self._services.champions.has_changed(version, known.get(version))
            if assigned.get(project_id) == version and not changed:
                continue
            if time.monotonic() - self._failed.get((project_id, version), float("-inf")) < RETRY_LOAD_SECONDS:
                continue
            found = self._services.registry.get(version)
            try:
                self._services.champions.serve(project_id, version, found.checkpoint, found.digest)
                self._failed.pop((project_id, version), None)
            except ModelUnavailableError as error:
                self._failed[project_id, version] = time.monotonic()
                log.error("%s", error)
        for project_id in assigned.keys() - wanted.keys():
            self._services.champions.withdraw(project_id)

    def follow_corrections(self) -> None:
        """Bring the corrections in memory up to date, those of every project that is served, and the drafts of waiting
        tasks."""
        for project in self._services.store.projects() if self._services.reuse else ():
            self._try(f"follow the corrections of project {project.id}", partial(self._follow_project, project.id))

    def _follow_project(self, project_id: int) -> None:
        services = self._services
        with services.champions.in_use(project_id) as version:
            if services.reuse and version:
                services.reuse.update(project_id, version)
                waiting.follow(services.settings, services.store, services.reuse, project_id, version)

    def end_selections(self) -> None:
        """Have Label Studio serve other tasks where the selected ones are labelled."""
        services = self._services
        for project in services.store.projects():
            step = partial(end_where_labelled, services.settings, services.store, project.id)
            self._try(f"end the selection of project {project.id}", step)

    def queue_retrains(self, stale_after_seconds: float = LEASE_SECONDS) -> None:
        """Queue the retrains that are due, that Redis has lost, or whose process died."""
        store, queue = self._services.store, self._services.queue
        for project in store.projects():
            self._services.inbox.queue_due(project.id)
        for retrain in [*store.queued_retrains(), *store.stale_retrains(stale_after_seconds)]:
            queue.enqueue_retrain(retrain)

    def schedule_comparisons(self) -> None:
        """Schedule the next comparison of every project with Label Studio, where an API key is configured.

        The time comes from SQL, so an emptied or new Redis gets the schedule again at the next poll.
        """
        settings, store = self._services.settings, self._services.store
        if not settings.label_studio_url or not settings.label_studio_api_key:
            return
        for project in store.projects():
            state = store.reconciliation_state(project.id)
            tried = max((at for at in (state.compared_at, state.failed_at) if at), default=None)
            at = now()
            due = tried + timedelta(seconds=settings.reconcile_seconds) if tried and tried <= at else at
            self._services.queue.schedule_reconcile(project.id, due)

    def queue_refreshes(self) -> None:
        """Queue jobs that draft where the champion has changed or a refresh is not finished."""
        services = self._services
        for project in services.store.projects():
            queueing.queue_refreshes(services.settings, services.store, services.queue, project.id)

    def queue_tracking(self) -> None:
        """Queue jobs that tell MLflow of retrains that have ended and champions that have changed."""
        self._tracking.queue_due(self._services.settings, self._services.store, self._services.queue)

    def queue_calibrations(self) -> None:
        """Queue the calibration of projects whose corrections have grown enough; they are counted when one has come."""
        for project in self._services.store.projects():
            newest = self._services.store.revision(project.id)
            if self._counted.get(project.id, 0) >= newest:
                continue
            if calibrating.is_due(self._services.store, project.id):
                self._services.queue.enqueue_calibration(project.id)
            else:
                self._counted[project.id] = newest

    def _run(self) -> None:
        self._try("load the champions", self.load_champions)
        self.loaded.set()
        self._try("import what loads a champion", self._services.champions.prepare)
        queued = scheduled = counted = float("-inf")
        while not self._stopping.wait(CHAMPION_SECONDS):
            self._try("load the champions", self.load_champions)
            if time.monotonic() - queued >= PENDING_SECONDS:
                self._try("queue pending retrains", self.queue_retrains)
                self._try("queue refreshes of drafts", self.queue_refreshes)
                self._try("tell MLflow", self.queue_tracking)
                queued = time.monotonic()
            if time.monotonic() - counted >= COUNT_SECONDS:
                self._try("queue the calibration of scores", self.queue_calibrations)
                counted = time.monotonic()
            if time.monotonic() - scheduled >= SCHEDULE_SECONDS:
                self._try("schedule comparisons with Label Studio", self.schedule_comparisons)
                scheduled = time.monotonic()

    def _follow(self) -> None:
        """A thread of its own, for Label Studio may be slow."""
        while not self._stopping.wait(CORRECTIONS_SECONDS):
            self._try("follow the corrections", self.follow_corrections)
            self._try("end selections", self.end_selections)

    def _reclaim(self) -> None:
        """A thread of its own, for there may be much to drop."""
        while not self._stopping.wait(SPACE_SECONDS):
            step = partial(space.reclaim, self._services.settings, self._services.store)
            self._try("keep images and features below their limits", step)

    def _share(self) -> None:
        """A thread of its own, for an upload takes as long as it takes."""
        while self._services.sharing.is_on and not self._stopping.wait(SHARE_SECONDS):
            step = partial(self._services.sharing.share_versions, self._services.registry)
            self._try("upload model versions", step)
            self._try("follow what other machines change", self._services.sharing.follow)

    def _try(self, what: str, step: Callable[[], None]) -> None:
        """Run one step. The thread survives any error; the same error is logged once until it is over."""
        message = ""
        try:
            step()
        except QueueError as error:
            message = str(error)
        except CaptionerError as error:
            message = f"Could not {what}: {error}"
        except Exception as error:
            message = f"Could not {what}: {error!r}."
            if self._errors.get(what) != message:
                log.exception("The watcher continues.")
        if message and self._errors.get(what) != message:
            log.warning("%s", message)
        self._errors[what] = message
