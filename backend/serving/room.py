"""How many images may wait in a process; more are refused at once instead of being kept until nobody waits for them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from backend.domain.errors import BusyError
from backend.serving.lanes import Lane
from backend.system import metrics

MOST = {Lane.SMALL: 1_000, Lane.LARGE: 10_000}
"""Images that may wait, of small requests and of large ones. A request for more is taken while no other one waits."""


class Room:
    """The images of a process that wait, by lane. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Counter[Lane] = Counter()

    @contextmanager
    def taken(self, lane: Lane, images: int) -> Iterator[Callable[[int], None]]:
        """So many images wait during the block, less those that its value is called with. Raises BusyError when too
        many do."""
        with self._lock:
            waiting = self._waiting[lane]
            if waiting and waiting + images > MOST[lane]:
                raise BusyError(
                    f"{waiting:,} images wait for their captions, and at most {MOST[lane]:,} may: ask again in "
                    f"{BusyError.RETRY_SECONDS} seconds."
                )
            self._waiting[lane] += images
        counted = metrics.IMAGES_WAITING.labels(lane.name.lower())
        counted.inc(images)
        left = images

        def leave(number: int) -> None:
            nonlocal left
            with self._lock:
                left -= number
                self._waiting[lane] -= number
            counted.dec(number)

        try:
            yield leave
        finally:
            leave(left)
