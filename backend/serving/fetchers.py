"""The threads of a process that fetch images, shared by all requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

THREADS = 32
"""Of a process: each may hold an image of `images.download.MAX_BYTES` in memory."""
EACH = 8
"""Of one request, so that a slow host of its images does not take all."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Fetchers:
    """A bounded number of threads. No thread runs before it is needed."""

    def __init__(self, threads: int = THREADS, each: int = EACH) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
        self._each = each

    @contextmanager
    def fetching(self, fetch: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[list[Future[Result]]]:
        """What `fetch` gives for each item, in order. At the end of the block those that have not begun are dropped."""
        results: list[Future[Result]] = [Future() for _ in items]
        waiting = deque(zip(items, results, strict=True))

        def step() -> None:
            try:
                item, result = waiting.popleft()
            except IndexError:
                return
            try:
                result.set_result(fetch(item))
            except BaseException as error:
                result.set_exception(error)
            if waiting:
                self._pool.submit(step)  # behind the other requests, so that a large one delays none of them

        try:
            for _ in range(min(self._each, len(items))):
                self._pool.submit(step)
            yield results
        finally:
            waiting.clear()
