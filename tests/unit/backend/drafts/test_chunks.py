"""A project is drafted by several jobs at once, each task by one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from backend.domain.corrections import Task
from backend.drafts import chunks, queueing
from backend.drafts.refresh import Run
from backend.store.drafts.refreshes import DONE, DRAFTING, EVERY, LIVE, STORED, WAITING, RefreshState
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import settings
from tests.unit.backend.drafts.test_refresh import (  # noqa: F401 - fixtures
    Studio,
    draft_all,
    naps,
    registry,
    silent_for,
    store,
    wait,
    work,
)

TASKS = [1, *range(14, 41)]


@pytest.fixture
def five_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_TASKS", 5)


def drafted(studio: Studio) -> list[int]:
    """The tasks whose drafts were stored, in this order."""
    return [task for said in studio.said if isinstance(said, list) for task in said]


def meanwhile(studio: Studio, *steps: Callable[[], object]) -> None:
    """Let each step happen while the drafts of the next chunk are stored."""
    left = list(steps)

    def next_step() -> None:
        if left:
            left.pop(0)()

    studio.meanwhile = next_step


@pytest.mark.usefixtures("five_a_chunk", "registry")
def test_jobs_draft_a_project_together_and_each_task_once(store: Store) -> None:  # noqa: F811
    studio = Studio({id_: [] for id_ in TASKS})
    store.begin_refresh(1, wanted=EVERY)
    seen: list[tuple[int, str]] = []

    def other() -> None:
        state = work(studio, store)
        seen.append((len(store.chunks(1)), state.state))

    meanwhile(studio, other)
    state = work(studio, store)
    assert drafted(studio) == TASKS
    assert seen == [(1, DRAFTING)], "the other job drafted all but what the first one has, and left the end to it"
    assert (state.state, state.stored, state.checked, state.total) == (WAITING, 28, 28, 28)
    assert store.chunks(1) == []


@pytest.mark.usefixtures("five_a_chunk", "registry")
def test_a_live_project_is_drafted_whole_and_stays_live(store: Store, naps: list[float]) -> None:  # noqa: F811
    studio = Studio({1: ["v2"], 2: [], 3: ["v3"], 4: [], 5: [], 6: []})
    studio.labelled = {4}
    store.begin_refresh(1, wanted=EVERY)
    state = work(studio, store, per_minute=12)
    assert drafted(studio) == [1, 2, 5, 6]
    assert (studio.model_version, state.mode, state.wanted, state.state) == ("captioner", LIVE, None, WAITING)
    assert naps == [], "the limit of refreshes is not that of a person's wish"
    wait(store)
    assert work(studio, store).state == DONE
    assert studio.held() == {1: ["v3"], 2: ["v3"], 3: ["v3"], 4: [], 5: ["v3"], 6: ["v3"]}


@pytest.mark.usefixtures("registry")
def test_a_limit_is_shared_by_the_jobs(store: Store, naps: list[float]) -> None:  # noqa: F811
    studio = Studio({id_: [] for id_ in range(1, 9)})
    store.begin_refresh(1, wanted=STORED, per_minute=12)
    assert work(studio, store, per_minute=60000).state == WAITING
    assert (studio.said, sum(naps)) == ([[1, 2], [3, 4], [5, 6], [7, 8], "v3"], 40)
    studio = Studio({id_: [] for id_ in range(1, 5)})
    store.begin_refresh(1, wanted=STORED, per_minute=12)
    naps.clear()
    meanwhile(studio, lambda: work(studio, store))
    work(studio, store)
    assert drafted(studio) == [1, 2, 3, 4]
    assert sum(naps) >= 20, "while two are at it each is half as fast"


@pytest.mark.usefixtures("five_a_chunk")
def test_what_has_drafts_by_two_old_versions_is_drafted_once(store: Store, registry: Registry) -> None:  # noqa: F811
    studio = Studio({id_: ["v1", "v2"] for id_ in range(1, 4)} | {4: ["v2"]})
    meanwhile(studio, lambda: work(studio, store))
    # the second job comes to the list of v2 while the first one has not stored the drafts of the list of v1
    late = studio.import_predictions
    order: list[Sequence[Any]] = []

    def slow(project_id: int, predictions: Sequence[Any]) -> int:
        order.append([each["task"] for each in predictions])
        if len(order) == 1:
            work(studio, store)
        return late(project_id, predictions)

    studio.import_predictions = slow  # type: ignore[method-assign]
    work(studio, store)
    assert sorted(map(sorted, order)) == [[1, 2, 3], [4]]
    assert {id_: names.count("v3") for id_, names in studio.held().items()} == {1: 1, 2: 1, 3: 1, 4: 1}


def test_the_first_chunks_and_the_last_ones_are_smaller() -> None:
    left, sizes = 2000, [chunks.size_of(None, 0)]
    while left > 0:
        sizes.append(chunks.size_of(None, left))
        left -= sizes[-1]
    assert sizes[:2] == [50, 250]
    assert sizes[-4:] == [50] * 4
    assert max(sizes) == 250
    assert [chunks.size_of(limit, 10_000) for limit in (1, 60, 600, 6000)] == [1, 10, 100, 100]


@pytest.mark.usefixtures("registry")
def test_a_slow_captioner_ends_in_time_and_the_next_job_continues(
    store: Store,  # noqa: F811
    naps: list[float],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "FEWEST_TASKS", 250)
    studio = Studio({id_: [] for id_ in range(1, 101)})
    store.begin_refresh(1, wanted=EVERY)
    made: list[int] = []

    def slow(project_id: int, tasks: Sequence[Task], version: ModelVersion) -> Any:
        made.extend(task.id for task in tasks)
        naps.append(40.0)
        return draft_all(project_id, tasks, version)

    def run() -> RefreshState:
        champion = Registry(store).champion(1)
        Run(studio, store, Registry(store), slow, champion, 600, 1).work()  # type: ignore[arg-type]
        return store.refresh_state(1)

    state = run()
    assert (state.state, state.checked, state.total, state.stored) == (DRAFTING, 64, 100, 63)
    [left] = store.chunks(1)
    assert (left.after_task, left.last_task, left.tasks, left.is_claimed) == (64, 100, 36, False)
    assert run().state == DRAFTING, "its time was over"
    state = run()
    assert made == list(range(1, 101))
    assert (state.state, state.checked, state.total, state.stored, state.failed) == (WAITING, 100, 100, 99, 1)


@pytest.mark.usefixtures("five_a_chunk")
def test_a_promotion_ends_every_job_and_the_new_version_begins(store: Store, registry: Registry) -> None:  # noqa: F811
    studio = Studio({id_: [] for id_ in range(1, 16)})
    store.begin_refresh(1, wanted=EVERY)

    def promote_beside_another() -> None:
        registry.promote(1, "v2", reason="for a test", by="test")

    meanwhile(studio, lambda: work(studio, store), promote_beside_another)
    state = work(studio, store)
    assert (state.version, state.state) == ("v3", DRAFTING)
    assert studio.said == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], "neither goes on"
    state = work(studio, store)
    assert (state.version, state.state, state.stored) == ("v2", WAITING, 14)
    assert all(names[-1] == "v2" for id_, names in studio.held().items() if id_ != 13)


@pytest.mark.usefixtures("five_a_chunk", "registry")
def test_stop_ends_every_job_and_the_chunks_are_continued(store: Store) -> None:  # noqa: F811
    studio = Studio({id_: [] for id_ in range(1, 13)})
    store.begin_refresh(1, wanted=EVERY)
    meanwhile(studio, lambda: work(studio, store), lambda: store.stop_refresh(1))
    assert work(studio, store).stopped
    assert drafted(studio) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert work(studio, store).checked == 0, "what was stored was not yet said so, and nothing is done while stopped"
    store.resume_refresh(1)
    state = work(studio, store)
    assert drafted(studio) == list(range(1, 13))
    assert (state.state, state.checked, state.total) == (WAITING, 12, 12)


@pytest.mark.usefixtures("five_a_chunk", "registry")
def test_a_late_job_whose_chunk_another_has_taken_writes_nothing(store: Store) -> None:  # noqa: F811
    studio = Studio({id_: [] for id_ in range(1, 4)})
    store.begin_refresh(1, wanted=EVERY)

    def take_over() -> None:
        silent_for(store, seconds=40)
        work(studio, store)

    meanwhile(studio, take_over)
    state = work(studio, store)
    assert drafted(studio) == [1, 2, 3], "the second one found them stored"
    assert (state.state, state.checked, state.stored) == (WAITING, 3, 0)


class Queue:
    def __init__(self, workers: int) -> None:
        self._workers, self.jobs = workers, list[int]()

    def workers(self, name: str) -> int:
        return self._workers

    def enqueue_refresh(self, project_id: int, number: int) -> str:
        self.jobs.append(number)
        return "job"


@pytest.mark.usefixtures("five_a_chunk", "registry")
def test_as_many_jobs_are_queued_as_there_are_free_workers_and_chunks(store: Store, tmp_path: Any) -> None:  # noqa: F811
    given = settings(tmp_path, LABEL_STUDIO_URL="http://x.example", LABEL_STUDIO_API_KEY="k")

    def queued(workers: int) -> list[int]:
        queue = Queue(workers)
        queueing.queue_refreshes(given, store, queue, 1)  # type: ignore[arg-type]
        return queue.jobs

    studio = Studio({id_: [] for id_ in range(1, 13)})
    store.begin_refresh(1, wanted=EVERY)
    assert queued(4) == [1], "one begins"
    meanwhile(studio, lambda: counts.append([queued(workers) for workers in (0, 1, 2, 9)]))
    counts: list[Any] = []
    store.order_refresh(1, version="v3", state=DRAFTING, mode=LIVE)
    assert queued(4) == [1], "how many chunks there are is not known yet"
    work(studio, store)
    assert counts == [[[], [], [2], [2, 3]]], "the first of three chunks is being drafted"
    assert queued(9) == [], "it is done, and nobody may be disturbed for ten minutes"
    store.begin_refresh(1, wanted=EVERY, version="v3", state=DRAFTING, listed=True)
    assert queued(4) == [2], "one ends it"
    store.stop_refresh(1)
    assert queued(4) == []
