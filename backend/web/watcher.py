"""A thread of each web process: it lets promoted champions serve, and recomputes from SQL what Redis should hold."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import Protocol

from backend.corrections.inbox import Inbox
from backend.domain.errors import CaptionerError, ModelUnavailableError, QueueError
from backend.queue import Queue
from backend.serving.champions import Champions
from backend.settings import Settings
from backend.store.database import now
from backend.store.lease import LEASE_SECONDS
from backend.store.registry import Registry
from backend.store.store import Store

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
SWEEP_SECONDS = 5.0
SCHEDULE_SECONDS = 15.0
RETRY_LOAD_SECONDS = 30.0


class WatchedServices(Protocol):
    """What the watcher needs of the backend."""

    settings: Settings
    store: Store
    registry: Registry
    queue: Queue
    inbox: Inbox
    champions: Champions


class Watcher:
    """Looks every second for moved champions, and every few for retrains that nobody works on."""

    def __init__(self, services: WatchedServices) -> None:
        self._rooms = services
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: dict[tuple[int, str], float] = {}
        self._troubles: dict[str, str] = {}

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Let each project be served by its champion; loading takes place here, requests go on meanwhile."""
        wanted, assigned = self._rooms.registry.champions(), self._rooms.champions.assigned()
        for project_id, version in wanted.items():
            if assigned.get(project_id) == version:
                continue
            if time.monotonic() - self._failed.get((project_id, version), float("-inf")) < RETRY_LOAD_SECONDS:
                continue
            checkpoint = self._rooms.registry.get(version).checkpoint
            try:
                self._rooms.champions.serve(project_id, version, checkpoint)
                self._failed.pop((project_id, version), None)
            except ModelUnavailableError as error:
                self._failed[project_id, version] = time.monotonic()
                log.error("%s", error)
        for project_id in assigned.keys() - wanted.keys():
            self._rooms.champions.withdraw(project_id)

    def sweep(self, stale_after_seconds: float = LEASE_SECONDS) -> None:
        """Queue what SQL knows to be pending: due, queued but lost from Redis, or begun by a process that died."""
        store, queue = self._rooms.store, self._rooms.queue
        for project in store.projects():
            self._rooms.inbox.queue_due(project.id)
        for retrain in [*store.queued_retrains(), *store.stale_retrains(stale_after_seconds)]:
            queue.enqueue_retrain(retrain)

    def schedule(self) -> None:
        """Have every project compared with Label Studio when its time comes, where an API key is configured.

        When that is, SQL says, so that a Redis that was emptied or is new holds it again at the next look.
        """
        settings, store = self._rooms.settings, self._rooms.store
        if not settings.label_studio_url or not settings.label_studio_api_key:
            return
        for project in store.projects():
            state = store.reconciliation_state(project.id)
            tried = max((at for at in (state.compared_at, state.failed_at) if at), default=None)
            due = tried + timedelta(seconds=settings.reconcile_seconds) if tried else now()
            self._rooms.queue.schedule_reconcile(project.id, due)

    def refresh(self) -> None:
        """Have drafts made anew where another version has come to serve, and gone on with where they are not done."""
        settings, store = self._rooms.settings, self._rooms.store
        if not settings.label_studio_url or not settings.label_studio_api_key:
            return
        for project in store.projects():
            champion, state = self._rooms.registry.champion(project.id), store.refresh_state(project.id)
            if state.is_due(champion.name if champion else None, store.newest_task(project.id)):
                self._rooms.queue.enqueue_refresh(project.id, state.lease + 1)

    def _run(self) -> None:
        swept = scheduled = float("-inf")
        while not self._stopping.wait(LOOK_SECONDS):
            self._try("look for champions", self.look)
            if time.monotonic() - swept >= SWEEP_SECONDS:
                self._try("queue pending work", self.sweep)
                self._try("have drafts made anew", self.refresh)
                swept = time.monotonic()
            if time.monotonic() - scheduled >= SCHEDULE_SECONDS:
                self._try("schedule comparisons with Label Studio", self.schedule)
                scheduled = time.monotonic()

    def _try(self, what: str, step: object) -> None:
        """Whatever goes wrong, the thread lives on; the same trouble is logged once until it is over."""
        trouble = ""
        try:
            step()  # type: ignore[operator]
        except QueueError as error:
            trouble = str(error)
        except CaptionerError as error:
            trouble = f"Could not {what}: {error}"
        except Exception as error:
            trouble = f"Could not {what}: {error!r}."
            if self._troubles.get(what) != trouble:
                log.exception("The watcher goes on.")
        if trouble and self._troubles.get(what) != trouble:
            log.warning("%s", trouble)
        self._troubles[what] = trouble
