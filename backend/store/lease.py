"""Leases: work that one process at a time may do is claimed in SQL, and the claim renewed every few seconds.

A clock may be set back. A time that lies farther ahead than it can have been set is one from before that, and ends no
later for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Self

log = logging.getLogger(__name__)

RENEW_SECONDS = 5.0
LEASE_SECONDS = 30.0
"""Work whose lease was not renewed for so long has lost its process, and another may claim it."""


def has_expired(heartbeat_at: datetime, at: datetime, after_seconds: float = LEASE_SECONDS) -> bool:
    """Whether a lease that was last renewed then has ended `at` a time, which is by the same clock: the database's."""
    return abs(at - heartbeat_at) >= timedelta(seconds=after_seconds)


def has_come(due_at: datetime, at: datetime, longest_seconds: float) -> bool:
    """Whether a time has come that was at most so many seconds ahead when it was set."""
    return not at < due_at <= at + timedelta(seconds=longest_seconds)


class Lease:
    """Calls `renew` every RENEW_SECONDS in a thread of its own for the time of a `with` block.

    `renew` returns False once another process has claimed the work, or a person has ended it; `lost` is then True.
    """

    def __init__(self, renew: Callable[[], bool]) -> None:
        self.lost = False
        self._renew = renew
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            try:
                self.lost = not self._renew()
            except Exception as error:  # a database that is busy for a moment must not end a long training
                log.warning("A lease could not be renewed: %r.", error)
