"""After a promotion or rollback the drafts that wait in Label Studio are those of the version that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import labeling_config
from backend.label_studio import wire
from backend.store.database import now
from backend.store.drafts.refreshes import DONE, DRAFTING, LIVE, STORED, WAITING, RefreshState
from backend.store.drafts.selections import SHOWN
from backend.store.registry import ModelVersion, Registry
from backend.store.tables import selections
from tests.e2e.bare import SECONDS, Bare
from tests.e2e.stack import await_true
from tests.e2e.studio import Studio
from tests.pictures import Pictures

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("label-studio")]

TAGS = labeling_config.parse(labeling_config.shipped("caption"))
PER_MINUTE = 600  # ten tasks a chunk
IMPATIENT = Path(__file__).with_name("impatient")
ONE, TWO, THREE = "tiny-one", "tiny-two", "tiny-three"


@dataclass
class Waiting:
    """A project whose tasks wait for people, and a look at the drafts they wait with."""

    loop: Bare
    registry: Registry
    id: int
    tasks: list[int]

    def promote(self, version: str) -> None:
        self.registry.promote(self.id, version, reason="for a test", by="test")

    def state(self) -> RefreshState:
        return self.loop.store.refresh_state(self.id)

    def settle(self, state: str, version: str, stored: int | None = None) -> RefreshState:
        """Wait until nobody is at it, and it is so far."""

        def settled() -> bool:
            found = self.state()
            so_far = found.state == state and found.version == version and found.heartbeat_at is None
            return so_far and stored in {None, found.stored} and not self.loop.store.chunks(self.id)

        await_true(settled, SECONDS, f"{state} by {version}; it is {self.state()}")
        return self.state()

    def let_time_pass(self) -> None:
        """As if the ten minutes were over in which somebody may have a task open."""
        self.loop.studio.age_predictions(self.id)
        self.loop.store.order_refresh(self.id, due_at=now() - timedelta(seconds=1))

    def selections_are_due(self) -> None:
        """As if the ten minutes were over in which somebody may have a task of an ended selection open."""
        with self.loop.store.writing(self.id) as connection:
            mine = selections.c.project_id == self.id
            connection.execute(selections.update().where(mine).values(due_at=now() - timedelta(seconds=1)))

    def held(self) -> dict[int, list[str]]:
        """Versions of the predictions of each task, as often as they are there."""
        found: dict[int, list[str]] = {task_id: [] for task_id in self.tasks}
        for each in self.predictions():
            found[each["task"]].append(each["model_version"])
        return {task_id: sorted(versions) for task_id, versions in found.items()}

    def predictions(self, version: str | None = None) -> list[Any]:
        found = self.loop.client.predictions(project_id=self.id)
        return [each for each in found if version in {None, each["model_version"]}]

    def submit(self, task_id: int, **fields: Any) -> dict[str, Any]:
        result = [wire.result(TAGS, "a caption by a person", origin="prediction-changed")]
        return self.loop.client.create_annotation(task_id, self.id, result, **fields)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, label_studio: Studio, pictures: Pictures) -> Iterator[Bare]:
    """It neither trains nor compares by itself, so that only drafts are made."""
    never = {"CAPTIONER_RETRAIN_EVERY": "0", "CAPTIONER_RECONCILE_SECONDS": "1000000"}
    given = {"CAPTIONER_DEVICE": "cpu", "CAPTIONER_BLIND_SHARE": "0.2", "CAPTIONER_REFRESH_PER_MINUTE": str(PER_MINUTE)}
    folder = tmp_path_factory.mktemp("refresh")
    made = Bare(folder, label_studio, workers=2, path=IMPATIENT, **never, **given)
    registry = Registry(made.store)
    for name in (ONE, TWO, THREE):
        registry.register(ModelVersion(name, pictures.captioner))
    with made:
        yield made


@pytest.fixture
def make(loop: Bare, pictures: Pictures) -> Callable[[int], Waiting]:
    """Projects of so many tasks, drafted live by the first version."""

    def make(count: int) -> Waiting:
        images = [row.image for row in pictures.rows[:count]]
        project, tasks = loop.open_project(f"{count} tasks that wait", images, ONE)
        return Waiting(loop, Registry(loop.store), project, sorted(tasks))

    return make


def test_live_drafts_of_another_version_are_made_anew(loop: Bare, make: Callable[[int], Waiting]) -> None:
    project = make(6)
    labelled, skipped, typed_in, opened, waits, undrafted = project.tasks
    loop.client.retrieve_predictions(project.id, project.tasks[:-1])
    before = {each["task"]: each for each in project.predictions()}
    project.submit(labelled, parent_prediction=before[labelled]["id"])
    project.submit(skipped, was_cancelled=True)
    loop.client.post(f"/api/tasks/{typed_in}/drafts", {"result": [wire.result(TAGS, "a cap")], "lead_time": 1})

    project.promote(TWO)
    assert project.settle(WAITING, TWO, stored=3).mode == LIVE
    both = [ONE, TWO]
    expected = {labelled: [ONE], skipped: [ONE], typed_in: both, opened: both, waits: both, undrafted: []}
    assert project.held() == expected
    # The editor was open all the time, and submits what it began with.
    annotation = project.submit(opened, parent_prediction=before[opened]["id"])
    assert annotation["parent_prediction"] == before[opened]["id"]

    project.let_time_pass()
    await_true(lambda: project.state().being_edited == 1, SECONDS, "old drafts to be deleted")
    project.settle(WAITING, TWO)
    assert project.held() == expected | {waits: [TWO]}, "who types, and what is labelled, is left alone"
    [draft] = loop.store.get_drafts(project.id, [waits], TWO)
    [prediction] = [each for each in project.predictions(TWO) if each["task"] == waits]
    assert prediction["result"] == wire.prediction(draft, TAGS)["result"], "what /predict would answer"

    assert loop.captioner("rollback", "--project", str(project.id)).startswith(ONE)
    project.settle(WAITING, ONE, stored=1)
    assert project.held() == expected | {waits: both}, "what was there still was not stored again"
    project.let_time_pass()
    project.settle(WAITING, ONE)
    await_true(lambda: project.held()[waits] == [ONE], SECONDS, "the draft of the version rolled back to")
    shown = loop.captioner("status")
    assert f"live: Label Studio asks for each task it opens\n  refresh      1 draft stored by {ONE}" in shown


def test_stored_the_switch_comes_last_and_the_least_sure_is_served_first(
    loop: Bare, make: Callable[[int], Waiting], pictures: Pictures
) -> None:
    project = make(6)
    loop.client.update_project(project.id, sampling="Uncertainty sampling")
    assert "is live." in loop.captioner("mode", "--project", str(project.id))
    loop.captioner("mode", "--project", str(project.id), "stored")
    project.settle(WAITING, ONE, stored=6)
    assert loop.client.project(project.id)["model_version"] == ONE
    assert f"Project {project.id} is stored." in loop.captioner("mode", "--project", str(project.id))
    assert project.state().mode == STORED
    least_sure = sorted(project.predictions(), key=lambda each: each["score"])
    for expected in least_sure[:2]:
        served = loop.client.next_task(project.id)
        assert served
        assert (served["id"], served["predictions"][0]["id"]) == (expected["task"], expected["id"])
        project.submit(served["id"], parent_prediction=expected["id"])

    project.promote(TWO)
    await_true(lambda: loop.client.project(project.id)["model_version"] == TWO, SECONDS, "the switch")
    assert len(project.predictions(TWO)) == 4, "every unlabelled task had its draft by then"
    [late] = loop.client.upload_images(project.id, [pictures.rows[6].image])
    project.tasks.append(late)
    await_true(lambda: len(project.predictions(TWO)) == 5, SECONDS, "the draft of a task that came later")
    project.let_time_pass()
    project.settle(DONE, TWO)
    labelled = {each["task"] for each in least_sure[:2]}
    assert project.held() == {task_id: [ONE] if task_id in labelled else [TWO] for task_id in project.held()}

    loop.captioner("mode", "--project", str(project.id), "live")
    assert loop.client.project(project.id)["model_version"] == "captioner"


def test_what_is_selected_is_served_first_in_its_order_and_to_two_annotators_different_tasks(
    loop: Bare, make: Callable[[int], Waiting]
) -> None:
    project = make(9)
    one, two = loop.client, loop.studio.invited("second@annotators.example")

    def is_as_before() -> bool:
        found = one.project(project.id)
        return (found["model_version"], found["sampling"]) == (ONE, "Sequential sampling")

    select, first = ("select", "--project", str(project.id)), f"Project {project.id}: the label stream serves"
    assert f"{first} 2 tasks" in loop.captioner(*select, "--count", "2", "--strategy", "disagreement")
    assert not is_as_before()
    loop.captioner(*select, "--undo")
    assert is_as_before()
    project.selections_are_due()
    assert f"{first} 6 tasks" in loop.captioner(*select, "--count", "6", "--strategy", "least-confident")
    await_true(lambda: not project.predictions(f"{ONE}.select-1"), SECONDS, "the copies of what was undone to go")
    [selection] = loop.store.selections(project.id, SHOWN)
    order = [each.task_id for each in loop.store.ranks(selection)]
    copies = sorted(project.predictions(selection.name), key=lambda each: each["score"])
    assert [(each["task"], each["score"]) for each in copies] == [(id_, n / 6) for n, id_ in enumerate(order, start=1)]
    own = {each["task"]: each for each in project.predictions(ONE)}
    assert sorted(own) == project.tasks
    assert [each["result"] for each in copies] == [own[id_]["result"] for id_ in order]

    def serve(annotator: Any, task_id: int) -> None:
        served = annotator.next_task(project.id)
        assert (served["id"], [each["model_version"] for each in served["predictions"]]) == (task_id, [selection.name])

    def submit(annotator: Any, task_id: int) -> None:
        result = [wire.result(TAGS, "a caption by a person", origin="prediction-changed")]
        held = next(each["id"] for each in (*copies, *own.values()) if each["task"] == task_id)
        annotator.create_annotation(task_id, project.id, result, parent_prediction=held)

    for task_id in order[:2]:
        serve(one, task_id)
        submit(one, task_id)
    serve(one, order[2])
    serve(two, order[3])
    submit(one, order[2])
    serve(one, order[4])
    submit(two, order[3])
    last = two.next_task(project.id)  # each of the two has one open now, so the selection ends within a second
    assert last
    await_true(is_as_before, SECONDS, "the end of the selection")
    assert "selected     6 tasks by least-confident" in loop.captioner("status")
    submit(one, order[4])
    submit(two, last["id"])
    for annotator in (one, two):
        served = annotator.next_task(project.id)
        assert served
        assert [each["model_version"] for each in served["predictions"]] == [ONE], "the others have their drafts"
    made = loop.store.corrections(project.id)
    assert {each.draft_version for each in made} == {ONE}
    assert len(made) == 6


def test_workers_draft_a_project_together_and_what_a_killed_one_left(
    loop: Bare, make: Callable[[int], Waiting]
) -> None:
    project = make(45)
    shown = loop.begin("preannotate", "--project", str(project.id), "--per-minute", str(PER_MINUTE))
    at_it = "2 workers; "
    await_true(lambda: at_it in loop.captioner("status"), SECONDS, "two workers")
    assert loop.kill("worker")
    output, _ = shown.communicate(timeout=SECONDS)
    assert shown.returncode == 0, output
    assert f"stored by {ONE}; 45 unlabelled tasks checked." in output
    assert project.held() == {task_id: [ONE] for task_id in project.tasks}, "none twice, and none left out"
    assert len(loop.store.get_drafts(project.id, project.tasks, ONE)) == 45
    state = project.settle(WAITING, ONE)
    assert (state.mode, state.wanted) == (LIVE, None)


def test_a_stopped_run_goes_on_where_it_was(loop: Bare, make: Callable[[int], Waiting]) -> None:
    project = make(25)
    loop.client.retrieve_predictions(project.id)
    project.promote(TWO)
    await_true(lambda: project.state().version == TWO and project.state().stored >= 10, SECONDS, "the first chunk")
    loop.store.stop_refresh(project.id)  # what --stop does, without the seconds a command takes to start
    await_true(lambda: not loop.jobs(project.id), SECONDS, "the job to end")
    assert "stopped" in loop.captioner("status")
    assert 10 <= len(project.predictions(TWO)) < 25
    assert project.state().state == DRAFTING
    loop.captioner("refresh", "--project", str(project.id))
    project.settle(WAITING, TWO)
    assert project.held() == {task_id: [ONE, TWO] for task_id in project.tasks}
