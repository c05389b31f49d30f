from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from backend.serving import workers as module
from backend.serving.lanes import Lane
from backend.serving.workers import Workers


class Work:
    """Items that are worked on until they are let go; what is in work now, and what was done in which order."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.now: Counter[str] = Counter()
        self.done: list[str] = []
        self.open = False

    def __call__(self, item: str, lane: Lane) -> None:
        with self.changed:
            self.now[item[0]] += 1
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.open, 20)
            self.now[item[0]] -= 1
            self.done.append(item)
            self.changed.notify_all()

    def until(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, 20)

    def let_go(self) -> None:
        with self.changed:
            self.open = True
            self.changed.notify_all()


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.let_go()


def put(workers: Workers[str], lane: Lane, owner: str, number: int) -> None:
    for place in range(number):
        workers.put(f"{owner}{place}", lane, owner)


@contextmanager
def first(workers: Workers[str], work: Work) -> Iterator[None]:
    """What is put in this block waits behind an item in work."""
    workers.put("first", Lane.SMALL, "first")
    work.until(lambda: work.now["f"] == 1)
    yield
    work.let_go()


def test_all_requests_share_a_bounded_number_of_threads_and_none_takes_all(work: Work) -> None:
    workers = Workers("test", work, threads=5, reserved=1, each=2)
    for owner in "abc":
        put(workers, Lane.LARGE, owner, 6)
    work.until(lambda: work.now.total() == 4)
    assert max(work.now.values()) == 2
    workers.put("small", Lane.SMALL, "small")
    work.until(lambda: work.now["s"] == 1)
    assert work.now.total() == 5
    work.let_go()
    work.until(lambda: len(work.done) == 19)


def test_small_requests_go_first(work: Work) -> None:
    workers = Workers("test", work, threads=1, reserved=0)
    with first(workers, work):
        put(workers, Lane.LARGE, "a", 3)
        put(workers, Lane.SMALL, "s", 2)
    work.until(lambda: len(work.done) == 6)
    assert work.done == ["first", "s0", "s1", "a0", "a1", "a2"]


def test_what_has_not_begun_can_be_dropped_or_hastened(work: Work) -> None:
    workers = Workers("test", work, threads=1, reserved=0)
    with first(workers, work):
        put(workers, Lane.LARGE, "a", 3)
        put(workers, Lane.BACKGROUND, "z", 2)
        put(workers, Lane.LARGE, "b", 1)
        workers.drop("a")
        workers.hasten("z1", Lane.SMALL)
    work.until(lambda: len(work.done) == 4)
    assert work.done == ["first", "z1", "b0", "z0"]


def test_a_lane_gets_no_further_ahead_than_it_may(work: Work) -> None:
    workers = Workers("test", work, threads=1, reserved=0, ahead=2)
    work.let_go()
    put(workers, Lane.LARGE, "a", 4)
    put(workers, Lane.SMALL, "s", 1)
    work.until(lambda: len(work.done) == 3)
    assert Counter(item[0] for item in work.done) == {"a": 2, "s": 1}
    workers.release(Lane.LARGE)
    work.until(lambda: len(work.done) == 4)
    workers.release(Lane.LARGE)
    work.until(lambda: len(work.done) == 5)


def test_a_thread_survives_a_failure_and_ends_when_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    done = threading.Event()
    threads: list[threading.Thread] = []

    def work(item: str, lane: Lane) -> None:
        threads.append(threading.current_thread())
        if item == "bad":
            raise KeyError(item)
        done.set()

    workers = Workers("test", work, threads=1, reserved=0)
    workers.put("bad", Lane.SMALL, "a")
    workers.put("good", Lane.SMALL, "a")
    assert done.wait(20)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    done.clear()
    workers.put("good", Lane.SMALL, "a")
    assert done.wait(20)
