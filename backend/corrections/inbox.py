"""The inbox of events from Label Studio: an event is committed before anything is queued."""

from __future__ import annotations

import logging
from dataclasses import replace

from backend.domain.corrections import Event
from backend.domain.errors import QueueError
from backend.queue import Queue
from backend.settings import Settings
from backend.store.recording import Receipt
from backend.store.store import Store

log = logging.getLogger(__name__)


class Inbox:
    """Records events and queues the retrains that become due."""

    def __init__(self, store: Store, queue: Queue, settings: Settings) -> None:
        self._store = store
        self._queue = queue
        self._every = settings.retrain_every

    def receive(self, event: Event) -> Receipt:
        """Commit the event; then queue a retrain if one is due. The receipt's `job` names the active retrain.

        When Redis cannot be reached the retrain stays queued in SQL, and the watcher queues it in Redis later.
        """
        receipt = self._store.record(event)
        return replace(receipt, job=self.queue_due(event.project_id, asked=event.asks_for_training))

    def queue_due(self, project_id: int, asked: bool = False) -> str | None:
        """Queue a retrain of the project if one is due; the name of the active one, or None."""
        retrain = self._store.request_retrain(project_id, asked, self._every)
        if retrain is None:
            return None
        if retrain.due:
            try:
                self._queue.enqueue_retrain(retrain)
            except QueueError as error:
                log.warning("Retrain %s: %s", retrain.snapshot, error)
        return f"retrain-{retrain.snapshot}"
