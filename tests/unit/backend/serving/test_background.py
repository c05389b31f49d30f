from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from backend.domain.corrections import Task
from backend.serving import background as module
from backend.serving.background import Background
from backend.serving.champions import Champions
from tests.factories import task
from tests.fakes import Model


class Drafts:
    """What is drafted, once it is let go or no longer goes on."""

    def __init__(self) -> None:
        self.began, self.opened, self.idle = threading.Event(), threading.Event(), threading.Event()
        self.done: list[tuple[int, str, list[int]]] = []
        self.ended = False

    def __call__(self, project_id: int, tasks: Sequence[Task], version: str, goes_on: Callable[[], bool]) -> None:
        self.began.set()
        while goes_on():
            if self.opened.wait(0.01):
                if tasks[0].image == "bad":
                    raise KeyError("bad")
                self.done.append((project_id, version, [each.id for each in tasks]))
                return
        self.ended = True


@pytest.fixture
def champions() -> Champions:
    made = Champions(load=lambda checkpoint, device: Model(checkpoint.name))
    made.serve(1, "v1", Path("v1"))
    made.serve(2, "v2", Path("v2"))
    return made


@pytest.fixture
def drafts() -> Drafts:
    return Drafts()


@pytest.fixture
def background(champions: Champions, drafts: Drafts) -> Iterator[Background]:
    made = Background(champions, drafts)
    yield made
    made.stop()


def end(background: Background) -> None:
    """Wait until nothing waits."""
    with background._lock:
        thread = background._thread
    if thread:
        thread.join(20)
        assert not thread.is_alive()


def numbered(*numbers: int, project_id: int = 1, image: str = "/a.png") -> list[Task]:
    return [task(number, project_id, image) for number in numbers]


def test_each_task_is_drafted_once_and_projects_take_turns(
    background: Background, drafts: Drafts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    assert background.add(1, "v1", numbered(1, 2, 3)) == []
    assert drafts.began.wait(20)
    assert background.add(2, "v2", numbered(7, project_id=2)) == []
    assert background.add(1, "v1", numbered(2, 3, 4, 4)) == [], "they wait already, or are being drafted"
    drafts.opened.set()
    end(background)
    assert drafts.done == [(1, "v1", [1, 2]), (2, "v2", [7]), (1, "v1", [3, 4])]
    assert background._waiting == {}
    assert background._characters == 0


def test_what_is_too_much_is_left(background: Background, drafts: Drafts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TASKS", 3)
    monkeypatch.setattr(module, "MOST_CHARACTERS", 100)
    assert [each.id for each in background.add(1, "v1", numbered(1, 2, 3, 4))] == [4]
    drafts.opened.set()
    end(background)
    inline = numbered(5, image="data:" + 200 * "x")
    assert background.add(1, "v1", inline) == inline


def test_a_version_stays_loaded_while_its_tasks_are_drafted_and_a_failure_ends_nothing(
    background: Background, drafts: Drafts, champions: Champions
) -> None:
    background.add(1, "v1", numbered(1, image="bad"))
    background.add(2, "v2", numbered(7, project_id=2))
    drafts.opened.set()
    end(background)
    assert drafts.done == [(2, "v2", [7])]
    champions.serve(1, "v3", Path("v3"))
    assert champions._models.keys() == {"v2", "v3"}, "v1 was let go"


def test_a_promotion_ends_the_work_of_the_version_before(
    background: Background, drafts: Drafts, champions: Champions
) -> None:
    background.add(1, "v1", numbered(1, 2))
    assert drafts.began.wait(20)
    champions.serve(1, "v3", Path("v3"))
    end(background)
    assert drafts.ended
    assert drafts.done == []
    assert champions._models.keys() == {"v2", "v3"}


def test_the_version_before_stays_until_its_last_draft_has_ended(champions: Champions) -> None:
    loaded: list[set[str]] = []

    def draft(project_id: int, tasks: Sequence[Task], version: str, goes_on: Callable[[], bool]) -> None:
        champions.serve(1, "v3", Path("v3"))
        loaded.append(set(champions._models))

    background = Background(champions, draft)
    background.add(1, "v1", numbered(1))
    end(background)
    assert loaded == [{"v1", "v2", "v3"}]
    assert champions._models.keys() == {"v2", "v3"}


def test_it_stops(background: Background, drafts: Drafts, champions: Champions) -> None:
    background.add(1, "v1", numbered(1, 2))
    assert drafts.began.wait(20)
    background.stop()
    assert drafts.ended
    assert background.add(1, "v1", numbered(3)) == numbered(3)
    champions.withdraw(1)
    assert champions._models.keys() == {"v2"}
