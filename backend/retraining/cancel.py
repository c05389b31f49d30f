"""Cancels a retrain: in SQL first, then in the queue."""

from __future__ import annotations

import logging

from backend.domain.errors import QueueError
from backend.queue import Queue
from backend.store.retrains import Retrain
from backend.store.store import Store

log = logging.getLogger(__name__)


def cancel(store: Store, queue: Queue, project_id: int) -> Retrain | None:
    """End the active retrain of the project; None when there is none, or its version is being registered already.

    Its process ends at its next heartbeat. A job that stays in an unreachable Redis finds nothing to do.
    """
    retrain = store.cancel_retrain(project_id)
    if retrain is not None:
        try:
            queue.drop_retrain(retrain)
        except QueueError as error:
            log.warning("Retrain %s is cancelled; its job stays queued: %s", retrain.snapshot, error)
    return retrain


def sentence(project_id: int, retrain: Retrain | None) -> str:
    """The result of `cancel`, for people."""
    if retrain is None:
        return (
            f"Project {project_id} has no retrain to cancel: none is queued or running, or its version is being "
            "registered already."
        )
    return (
        f"Retrain {retrain.snapshot} of project {project_id} is cancelled: its process ends within seconds, the "
        "champion stays, and the corrections are part of the next retrain."
    )
