from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from backend.corrections.reconcile import OVERLAP_SECONDS, is_complete_due, reconcile, reconcile_if_possible
from backend.domain.corrections import Event
from backend.domain.errors import LabelStudioError
from backend.label_studio.client import LabelStudio
from backend.store.reconciliations import ReconciliationState
from backend.store.store import Store
from tests.factories import correction, saved, settings
from tests.fakes import Answer, Host, host

CONFIG = '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'


class Studio:
    """What reconcile asks of Label Studio's client, of these tasks."""

    def __init__(self, *tasks: dict[str, Any], label_config: str = CONFIG) -> None:
        self.tasks, self.label_config = list(tasks), label_config
        self.requests = 0
        self.since: datetime | None = None
        self.read: list[int] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def project(self, project_id: int) -> dict[str, Any]:
        self.requests += 1
        return {"id": project_id, "label_config": self.label_config}

    def task_summaries(
        self, project_id: int, unreadable: set[int], since: datetime | None = None
    ) -> Iterator[list[Any]]:
        self.requests += 1
        self.since = since
        found = [{key: value for key, value in task.items() if key != "annotations"} for task in self.tasks]
        yield [task for task in found if since is None or datetime.fromisoformat(task["updated_at"]) >= since]

    def full_tasks(self, project_id: int, task_ids: Sequence[int], unreadable: set[int]) -> list[Any]:
        self.requests += 1
        self.read += task_ids
        found = [json.loads(json.dumps(task)) for task in self.tasks if task["id"] in task_ids]
        self.meanwhile()
        return found


def compare(studio: Studio, store: Store, complete: bool = True) -> Any:
    studio.read = []
    return reconcile(1, studio, store, complete)  # type: ignore[arg-type]


def listed(id: int, text: str = "a red dot", second: float = 0, **fields: Any) -> Any:
    """A task with one annotation of the same number, both changed in that second."""
    moment = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).isoformat()
    value = {"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": [text]}}
    annotation = {"id": id, "result": [value], "updated_at": moment, "was_cancelled": False, "updated_by": 1}
    return {
        "id": id,
        "data": {"image": f"/data/upload/1/{id}.jpg"},
        "updated_at": moment,
        "total_annotations": 1,
        "annotations": [{**annotation, **fields}],
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


def texts(store: Store) -> dict[int, str]:
    return {row.annotation_id: row.texts[0] for row in store.corrections(1)}


def test_captions_a_project_already_has_count(store: Store) -> None:
    found = compare(Studio(listed(1), listed(2, "a blue dot")), store)
    assert str(found).startswith(
        "Project 1: compared for the first time, 2 tasks and 2 annotations taken in (all 2 tasks, 3 requests, "
    )
    assert len(str(found).splitlines()) == 1
    assert (store.reconciliation_state(1).repaired, store.reconciliation_state(1).repairs) == (0, {}), "none was missed"
    assert found.new == 2
    assert [(row.texts, row.image) for row in store.corrections(1)] == [
        (("a red dot",), "/data/upload/1/1.jpg"),
        (("a blue dot",), "/data/upload/1/2.jpg"),
    ]
    assert store.request_retrain(1, asked=False, every=2) is not None


def test_everything_that_was_missed_is_told_kind_by_kind(store: Store) -> None:
    studio = Studio(*(listed(id_) for id_ in (1, 2, 3, 4)))
    compare(studio, store)
    moved = listed(4)
    moved["data"]["image"] = "/data/upload/1/another.jpg"
    emptied = {**listed(2, second=9), "annotations": [], "total_annotations": 0}
    propagated, imported = listed(6, updated_by=None, parent_annotation=3), listed(7, updated_by=None)
    studio.tasks = [emptied, listed(3, "changed", 5), moved, listed(5), propagated, imported]
    found = compare(studio, store)
    assert found.repairs == {
        "created": 1,
        "imported": 1,
        "in_bulk": 1,
        "updated": 1,
        "deleted": 2,  # one of them with its task
        "tasks_created": 3,
        "tasks_updated": 1,
        "tasks_deleted": 1,
    }
    assert texts(store) == {3: "changed", 4: "a red dot", 5: "a red dot", 6: "a red dot", 7: "a red dot"}
    assert store.get_task(1, 1) is None
    task = store.get_task(1, 4)
    assert task is not None
    assert task.image == "/data/upload/1/another.jpg"


def test_comparing_again_reads_nothing_in_full_and_changes_nothing(store: Store) -> None:
    studio = Studio(listed(1), listed(2))
    compare(studio, store)
    before = store.corrections(1)
    found = compare(studio, store)
    assert (studio.read, found.requests, found.repairs, store.corrections(1)) == ([], 2, {}, before)
    assert str(found).startswith("Project 1: nothing had been missed (all 2 tasks, 2 requests, ")


def test_only_what_changed_is_read_in_full(store: Store) -> None:
    studio = Studio(*(listed(id_) for id_ in range(1, 9)))
    compare(studio, store)
    studio.tasks[2] = listed(3, "changed", 5)
    store.record(saved(correction(7, "saved", 9)))  # a webhook: what is known of its task is no longer what was read
    studio.tasks[6] = listed(7, "saved", 9)
    found = compare(studio, store)
    assert found.repairs == {"updated": 1}
    assert str(found).splitlines()[0].startswith("Project 1: 1 missed change taken in (")
    assert str(found).splitlines()[1:] == ["       1 changed annotation"]
    assert studio.read == [3, 7]


def test_a_quick_comparison_asks_for_what_changed_since_the_last(store: Store) -> None:
    studio = Studio(listed(1), listed(2))
    compare(studio, store)
    compared_at = store.reconciliation_state(1).compared_at
    assert compared_at is not None
    studio.tasks = [listed(2, "changed", second=(datetime.now(UTC) - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds())]
    found = compare(studio, store, complete=False)
    assert studio.since == compared_at - timedelta(seconds=OVERLAP_SECONDS)
    assert (studio.read, found.tasks, found.repairs) == ([2], None, {"updated": 1})
    assert texts(store) == {1: "a red dot", 2: "changed"}, "deleted tasks are found by looking at every one"
    assert compare(studio, store).repairs == {"deleted": 1, "tasks_deleted": 1}


def test_the_first_comparison_looks_at_every_task(store: Store) -> None:
    assert compare(Studio(listed(1)), store, complete=False).tasks == 1


def test_a_late_webhook_of_something_deleted_is_found_out(store: Store) -> None:
    studio = Studio({**listed(1), "annotations": [], "total_annotations": 0})
    compare(studio, store)
    store.record(saved(correction(1)))  # its deletion was lost, and Label Studio's task has not changed since
    assert compare(studio, store).repairs == {"deleted": 1}
    assert texts(store) == {}


def test_what_is_saved_while_label_studio_is_read_is_not_taken_for_deleted(store: Store) -> None:
    studio = Studio(listed(1))
    studio.meanwhile = lambda: store.record(saved(correction(2, "meanwhile", task_id=1), correction(3, "meanwhile")))
    assert "deleted" not in compare(studio, store).repairs
    assert texts(store) == {1: "a red dot", 2: "meanwhile", 3: "meanwhile"}


def test_a_label_studio_begun_anew_under_the_same_ids_loses_nothing(store: Store) -> None:
    before, after = "2026-01-01T00:00:00Z", (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    first = listed(1, "a red dot", created_at=before) | {"created_at": before}
    second = listed(1, "a blue square", second=10**9, created_at=after) | {"created_at": after}
    second["data"] = {"image": "/data/upload/1/another.jpg"}
    compare(Studio(first), store)
    compare(Studio(), store)
    assert store.corrections(1) == []
    assert compare(Studio(second), store).new == 1
    assert [(row.texts, row.image) for row in store.corrections(1)] == [
        (("a blue square",), "/data/upload/1/another.jpg")
    ]


def test_how_far_it_is_and_what_it_cost_is_remembered(store: Store) -> None:
    studio = Studio(listed(1), listed(2))
    assert store.reconciliation_state(1) == ReconciliationState(1)
    compare(studio, store)
    studio.tasks.append(listed(3))
    compare(studio, store)
    state = store.reconciliation_state(1)
    assert state.completed_at is not None
    assert datetime.now(UTC) - state.completed_at < timedelta(seconds=60)
    assert (state.completed_tasks, state.completed_requests, state.repaired) == (3, 3, 2)
    assert state.repairs == {"created": 1, "tasks_created": 1}
    compare(studio, store, complete=False)
    after = store.reconciliation_state(1)
    assert (after.completed_at, after.repaired) == (state.completed_at, 2)
    assert after.compared_at is not None
    assert after.compared_at > state.completed_at


def test_the_schedule_looks_at_every_task_now_and_then(store: Store, tmp_path: Path) -> None:
    hourly = settings(tmp_path, CAPTIONER_SWEEP_SECONDS="3600")
    assert is_complete_due(hourly, store, 1)
    for minutes, due in ((59, False), (61, True)):
        store.save_reconciliation(ReconciliationState(1, completed_at=datetime.now(UTC) - timedelta(minutes=minutes)))
        assert is_complete_due(hourly, store, 1) == due


def test_a_labelling_config_without_a_caption_box_is_said_so(store: Store) -> None:
    with pytest.raises(LabelStudioError, match="captions of project 1 cannot be read: The labelling config has no <Im"):
        compare(Studio(label_config="<View/>"), store)


def test_label_studio_being_away_is_no_reason_to_stop(store: Store, tmp_path: Path) -> None:
    store.record(Event("PROJECT_UPDATED", 1))
    with host() as studio:
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY="0" * 40)
        studio.answers["/api/projects/1"] = Answer(404, b'{"detail": "No Project matches the given query."}')
        reconcile_if_possible(configured, store, 1)
        assert studio.paths() == ["/api/projects/1"]
        assert "has no project 1" in str(store.reconciliation_state(1).failure)
        studio.answers["/api/projects/1"] = Answer(body=json.dumps({"label_config": CONFIG}).encode())

        def tasks(request: Any) -> Answer:
            asked = parse_qs(urlsplit(request.path).query)
            after = json.loads(asked["query"][0]).get("filters", {}).get("items", [{"value": 0}])[0]["value"]
            return Answer(body=json.dumps({"tasks": [listed(1)] if after < 1 else [], "total": 1}).encode())

        studio.answers["/api/tasks"] = tasks
        reconcile_if_possible(configured, store, 1)
    assert len(store.corrections(1)) == 1
    assert store.reconciliation_state(1).failure is None
    reconcile_if_possible(settings(tmp_path), store, 1)  # without an API key nobody can be asked


def test_the_client_pages_through_tasks_without_side_effects() -> None:
    def tasks(request: Any) -> Answer:
        asked = {key: value[0] for key, value in parse_qs(urlsplit(request.path).query).items()}
        assert (asked["review"], asked["resolve_uri"], asked["page"]) == ("true", "false", "1")
        query = json.loads(asked["query"])
        [chosen] = query["filters"]["items"]
        assert (chosen["filter"], chosen["operator"], query["ordering"]) == ("filter:tasks:id", "greater", ["tasks:id"])
        left = [id_ for id_ in (3, 4, 9) if id_ > chosen["value"]]
        return Answer(body=json.dumps({"tasks": [{"id": id_} for id_ in left[:2]]}).encode())

    with host() as studio:
        studio.answers["/api/tasks"] = tasks
        client = LabelStudio(studio.url, "0" * 40)
        assert [[task["id"] for task in page] for page in client.task_summaries(1, set())] == [[3, 4], [9]]
        assert client.requests == 3
        assert client.full_tasks(1, [], set()) == []
        assert client.requests == 3, "none is not all"


class Damaged:
    """Label Studio's list of tasks where it cannot write the data or the annotations of some: it answers 500."""

    def __init__(self, studio: Host, tasks: list[Any]) -> None:
        self.tasks, self.data, self.annotations = tasks, set[int](), set[int]()
        studio.answers["/api/projects/1"] = Answer(body=json.dumps({"label_config": CONFIG}).encode())
        studio.answers["/api/tasks"] = self.answer

    def answer(self, request: Any) -> Answer:
        asked = {key: value[0] for key, value in parse_qs(urlsplit(request.path).query).items()}
        query, full = json.loads(asked["query"]), asked.get("fields") == "all"
        chosen = self.tasks
        for item in query.get("filters", {}).get("items", []):
            if item["filter"] == "filter:tasks:id":
                within = {"greater": int.__gt__, "less_or_equal": int.__le__}[item["operator"]]
                chosen = [task for task in chosen if within(task["id"], item["value"])]
        if included := query.get("selectedItems", {}).get("included"):
            chosen = [task for task in chosen if task["id"] in included]
        page = chosen[: int(asked["page_size"])]
        if {task["id"] for task in page} & (self.data | (self.annotations if full else set())):
            return Answer(500, b"<html>")
        shown = [{key: task[key] for key in task if full or key != "annotations"} for task in page]
        return Answer(body=json.dumps({"tasks": shown, "total": len(chosen)}).encode())


def test_tasks_that_label_studio_cannot_serve_are_named_and_every_other_is_taken_in(store: Store) -> None:
    with host() as studio:
        label_studio = Damaged(studio, [listed(id_) for id_ in range(3, 60, 3)])
        label_studio.data, label_studio.annotations = {6, 9, 57}, {30}
        client = LabelStudio(studio.url, "0" * 40)
        found = reconcile(1, client, store)
        assert found.unreadable == {6, 9, 30, 57}
        assert texts(store).keys() == set(range(3, 60, 3)) - found.unreadable
        assert "\nTasks 6, 9, 30, 57 cannot be read from Label Studio" in str(found)
        assert client.requests < 80
        reconcile(1, client, store, complete=False)
        state = store.reconciliation_state(1)
        assert (state.unreadable, state.failure) == ([6, 9, 30, 57], None)

        label_studio.data, label_studio.annotations = set(), {30}
        assert reconcile(1, client, store).new == 3
        assert store.reconciliation_state(1).unreadable == [30]
        label_studio.annotations = set()
        reconcile(1, client, store, complete=False)
        assert store.reconciliation_state(1).unreadable == []


def test_what_is_known_of_a_task_stays_when_it_can_no_longer_be_read(store: Store) -> None:
    with host() as studio:
        label_studio = Damaged(studio, [listed(1), listed(2)])
        client = LabelStudio(studio.url, "0" * 40)
        reconcile(1, client, store)
        label_studio.data = {2}
        assert reconcile(1, client, store).repairs == {}
        assert texts(store).keys() == {1, 2}


def test_waiting_tasks_after_one_that_cannot_be_served_are_listed() -> None:
    with host() as studio:
        label_studio = Damaged(studio, [listed(id_) for id_ in (1, 2, 3)])
        label_studio.annotations = {1, 3}
        client, unreadable = LabelStudio(studio.url, "0" * 40), set[int]()
        page, total = client.unlabelled(1, 0, 100, unreadable)
        assert ([task["id"] for task in page], total, unreadable) == ([2], 2, {1})
        assert client.unlabelled(1, 2, 100, unreadable)[0] == []
        assert unreadable == {1, 3}


def test_a_label_studio_that_serves_nothing_is_not_asked_task_by_task(store: Store) -> None:
    with host() as studio:
        Damaged(studio, [])
        studio.answers["/api/tasks"] = Answer(500)
        client = LabelStudio(studio.url, "0" * 40)
        with pytest.raises(LabelStudioError, match="answered 500 to GET /api/tasks"):
            reconcile(1, client, store)
        assert client.requests < 20


def test_an_annotation_that_is_nested_too_deep_hides_only_its_task(store: Store) -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    damaged = listed(1)
    damaged["annotations"][0]["result"][0]["meta"] = deep
    found = compare(Studio(damaged, listed(2)), store)
    assert (found.unreadable, texts(store)) == ({1}, {2: "a red dot"})
    assert str(found).endswith(
        "Task 1 cannot be read from Label Studio and is left out; delete it, or its damaged annotation."
    )
