"""One thread at a time for each image."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from backend.domain.errors import ImageError

Failures = dict[Any, ImageError]


@dataclass
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0
    failures: Failures = field(default_factory=dict)


class Turns:
    """Turns by the name of what is fetched. Threads share it."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._guard = threading.Lock()

    @contextmanager
    def at(self, name: str) -> Iterator[Failures]:
        """Wait until no other thread is in the block for this name.

        Its value is the failures that threads before left for those that wait, by what they tried; the last one out
        takes them away.
        """
        with self._guard:
            turn = self._turns.setdefault(name, _Turn())
            turn.threads += 1
        try:
            with turn.lock:
                yield turn.failures
        finally:
            with self._guard:
                turn.threads -= 1
                if not turn.threads:
                    del self._turns[name]

    def threads(self, name: str) -> int:
        """How many threads are in the block for this name or wait for it."""
        with self._guard:
            return self._turns[name].threads if name in self._turns else 0
