"""Threads of a process that all requests share, small requests first."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

from backend.serving.lanes import Lane, Lanes

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""A thread that has had nothing to do for so long ends."""

Item = TypeVar("Item")


class Workers(Generic[Item]):
    """A bounded number of threads that do `work` on each item. No thread runs before it is needed.

    `reserved` threads are for small requests only, and one request has at most `each` at once, so that a slow one does
    not take all. With `ahead`, a lane has at most so many items in work or done and not yet `release`d.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Item, Lane], None],
        threads: int,
        reserved: int,
        each: int | None = None,
        ahead: int | None = None,
    ) -> None:
        self._name, self._work = name, work
        self._most, self._unreserved, self._each, self._ahead = threads, threads - reserved, each or threads, ahead
        self._changed = threading.Condition()  # guards everything below
        self._waiting: Lanes[Item] = Lanes()
        self._running: Counter[object] = Counter()  # by owner
        self._busy: Counter[bool] = Counter()  # threads by whether they work for a small request
        self._out: Counter[Lane] = Counter()  # taken and not released
        self._threads = self._idle = 0

    def put(self, item: Item, lane: Lane, owner: object) -> None:
        with self._changed:
            self._waiting.put(item, lane, owner)
            if self._idle < len(self._waiting) and self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            self._changed.notify()

    def hasten(self, item: Item, lane: Lane) -> None:
        """Have an item that still waits wait in a more urgent lane."""
        with self._changed:
            self._waiting.hasten(item, lane)
            self._changed.notify()

    def drop(self, owner: object) -> None:
        """Forget what of this request has not begun."""
        with self._changed:
            self._waiting.drop(owner)

    def release(self, lane: Lane) -> None:
        """One that was worked on in this lane is no longer kept."""
        with self._changed:
            self._out[lane] -= 1
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                taken = self._changed.wait_for(self._take, IDLE_SECONDS)
                self._idle -= 1
                if taken is None:
                    self._threads -= 1
                    return
            lane, owner, item = taken
            try:
                self._work(item, lane)
            except Exception:  # the thread must go on
                log.exception("A thread for %s failed.", self._name)
            del item, taken  # or they stay in memory until the next one comes
            with self._changed:
                self._running[owner] -= 1
                if not self._running[owner]:
                    del self._running[owner]
                self._busy[lane == Lane.SMALL] -= 1
                self._changed.notify()
            del owner

    def _take(self) -> tuple[Lane, object, Item] | None:
        taken = self._waiting.take(self._fits)
        if taken:
            lane, owner, _ = taken
            self._running[owner] += 1
            self._busy[lane == Lane.SMALL] += 1
            self._out[lane] += 1
        return taken

    def _fits(self, lane: Lane, owner: object) -> bool:
        if self._ahead is not None and self._out[lane] >= self._ahead:
            return False
        return self._running[owner] < self._each and (lane == Lane.SMALL or self._busy[False] < self._unreserved)
