"""The heartbeat of a retrain: its lease and its progress, in SQL."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from backend.domain.errors import DatabaseError
from backend.store.lease import Lease
from backend.store.retrains import Retrain
from backend.store.store import Store

log = logging.getLogger(__name__)


class SupersededError(Exception):
    """Another process has claimed this retrain, or it was cancelled; this process ends without recording anything."""


class Heartbeat(Lease):
    """Renews the lease of a retrain and records its progress with it."""

    def __init__(self, store: Store, retrain: Retrain) -> None:
        super().__init__(self._write)
        self._store, self._retrain = store, retrain
        self._progress: dict[str, Any] = {}
        self._phase_began = 0.0
        self._writing = threading.Lock()  # or the thread could write older progress after newer

    def report(self, phase: str, **numbers: Any) -> None:
        """Record the progress and the time spent in this phase: with the next renewal, a new phase at once.

        Every phase must call this every few seconds. A database that is away does not end it. Raises SupersededError
        once the lease is lost.
        """
        is_new = phase != self._progress.get("phase")
        if is_new:
            self._phase_began = time.monotonic()
        seconds = round(time.monotonic() - self._phase_began, 1)
        self._progress = {"phase": phase, **numbers, "phase_seconds": seconds}
        if is_new:
            try:
                self.renew()
            except DatabaseError as error:
                log.warning("Retrain %s goes on without a word of it: %s", self._retrain.snapshot, error)
        if self.lost:
            raise SupersededError

    def renew(self) -> None:
        """Write the progress now. Raises SupersededError when the lease is lost, DatabaseError when nobody knows."""
        if not self._write():
            raise SupersededError

    def _write(self) -> bool:
        with self._writing:
            return self._store.renew_retrain(self._retrain, self._progress)
