from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from backend.serving.fetchers import Fetchers


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_all_requests_share_a_bounded_number_of_threads_and_none_takes_all() -> None:
    fetchers, opened, guard = Fetchers(threads=4, each=2), threading.Event(), threading.Lock()
    now: Counter[int] = Counter()
    most: Counter[int] = Counter()
    seen: set[str] = set()

    def fetch(item: tuple[int, int]) -> tuple[int, int]:
        with guard:
            now[item[0]] += 1
            most[item[0]] = max(most[item[0]], now[item[0]])
            seen.add(threading.current_thread().name)
        assert opened.wait(20)
        with guard:
            now[item[0]] -= 1
        return item

    def ask(request: int) -> list[tuple[int, int]]:
        items = [(request, n) for n in range(6)]
        with fetchers.fetching(fetch, items) as results:
            assert [each.result(20) for each in results] == items
        return items

    with ThreadPoolExecutor(5) as requests:
        asked = [requests.submit(ask, n) for n in range(5)]
        until(lambda: now.total() == 4)
        opened.set()
        assert sum(len(each.result(20)) for each in asked) == 30
    assert len(seen) == 4
    assert max(most.values()) <= 2


def test_a_large_request_does_not_delay_a_small_one() -> None:
    fetchers, opened = Fetchers(threads=1, each=1), threading.Event()
    done: list[str] = []

    def fetch(item: str) -> None:
        assert opened.wait(20)
        done.append(item)

    with fetchers.fetching(fetch, ["large"] * 50) as large, fetchers.fetching(fetch, ["small"]) as small:
        opened.set()
        small[0].result(20)
        large[-1].result(20)
    assert done.index("small") == 1


def test_what_has_not_begun_is_dropped_with_the_request() -> None:
    fetchers, begun, opened = Fetchers(threads=1, each=1), threading.Event(), threading.Event()
    done: list[int] = []

    def fetch(item: int) -> None:
        begun.set()
        assert opened.wait(20)
        done.append(item)

    with fetchers.fetching(fetch, range(5)):
        assert begun.wait(20)
    opened.set()
    with fetchers.fetching(fetch, [9]) as results:
        results[0].result(20)
    assert done == [0, 9]


def test_an_error_belongs_to_its_item() -> None:
    def fetch(item: int) -> float:
        return 1 / item

    with Fetchers().fetching(fetch, [0, 1]) as results:
        assert results[1].result(20) == 1
        with pytest.raises(ZeroDivisionError):
            results[0].result(20)
