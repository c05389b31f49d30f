"""The sign of life of a retrain, and its progress, in SQL."""

from __future__ import annotations

import logging
import os
import threading
import time
from types import TracebackType
from typing import Any, Self

from backend.store.retrains import Retrain
from backend.store.store import Store

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
LOOK_SECONDS = 0.5  # for the worker


class SupersededError(Exception):
    """Another process has taken over this retrain, or it was cancelled; this one ends without a word."""


class Pulse:
    """Says every few seconds that a retrain lives and how far it is; ends the process when its worker is gone."""

    def __init__(self, store: Store, retrain: Retrain) -> None:
        self._store, self._retrain = store, retrain
        self._progress: dict[str, Any] = {}
        self._phase_began = 0.0
        self._writing = threading.Lock()  # or what was said before could be written after what was said last
        self._over = threading.Event()
        self._superseded = False
        self._worker = os.getppid()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def tell(self, phase: str, **numbers: Any) -> None:
        """How far it is, and how long the phase has taken so far: written at the next beat, a new phase at once.

        Raises SupersededError when another process has taken over or the retrain was cancelled, which the next beat
        finds out: every phase is to call this every few seconds.
        """
        begun = phase != self._progress.get("phase")
        if begun:
            self._phase_began = time.monotonic()
        seconds = round(time.monotonic() - self._phase_began, 1)
        self._progress = {"phase": phase, **numbers, "phase_seconds": seconds}
        if begun:
            self.confirm()
        if self._superseded:
            raise SupersededError

    def confirm(self) -> None:
        """Write now. Raises SupersededError when another process has taken over or the retrain was cancelled."""
        if not self._write():
            raise SupersededError

    def _write(self) -> bool:
        with self._writing:
            return self._store.heartbeat(self._retrain.id, self._retrain.attempt, self._progress)

    def _beat(self) -> None:
        due = time.monotonic() + HEARTBEAT_SECONDS
        while not self._over.wait(LOOK_SECONDS):
            if os.getppid() != self._worker:
                log.error("The worker is gone; its retrain ends with it and is run again by the next.")
                os._exit(1)
            if time.monotonic() < due:
                continue
            due = time.monotonic() + HEARTBEAT_SECONDS
            try:
                self._superseded = not self._write()
            except Exception as error:  # a busy database for a moment must not end a long training
                log.warning("Retrain %s could not say that it lives: %r.", self._retrain.snapshot, error)
