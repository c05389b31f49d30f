"""When MLflow is told: soon after a retrain has ended or a champion has changed, and again now and then."""

from __future__ import annotations

import time

from backend.queue import Queue
from backend.retraining.tracking.server import check
from backend.settings import Settings
from backend.store.registry import DEFAULT, Registry
from backend.store.store import Store

AGAIN_SECONDS = 600.0
"""MLflow may have been away: a job that finds nothing new asks it four questions."""


class Tracking:
    """The state of each project that this process has last queued a job for, and when."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[str, float]] = {}

    def queue_due(self, settings: Settings, store: Store, queue: Queue) -> None:
        """Queue a job for each project with news. Raises CaptionerError where MLflow is wanted and not installed."""
        if not settings.mlflow_tracking_uri:
            return
        check()
        registry = Registry(store)
        for project in store.projects():
            state = _state(store, registry, project.id)
            told, at = self._told.get(project.id, ("", float("-inf")))
            if state != told or time.monotonic() - at >= AGAIN_SECONDS:
                queue.enqueue_tracking(project.id, state)
                self._told[project.id] = state, time.monotonic()


def _state(store: Store, registry: Registry, project_id: int) -> str:
    """A text that changes when a retrain of the project ends or another version comes to serve it."""
    ended = next((retrain.id for retrain in store.retrains(project_id, limit=2) if not retrain.active), 0)
    moves = [move for owner in (project_id, DEFAULT) for move in registry.moves(owner, limit=1)]
    return "-".join([str(ended), *(f"{move.moved_at:%Y%m%d%H%M%S%f}" for move in moves)])
