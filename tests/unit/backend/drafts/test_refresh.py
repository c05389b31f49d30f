from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.domain.corrections import Draft, DraftFailure, Event, Task
from backend.domain.errors import LabelStudioError
from backend.drafts import job as module
from backend.drafts.refresh import Run, refresh_if_possible
from backend.serving.champions import Champions
from backend.serving.drafting import drafter
from backend.store.database import now
from backend.store.drafts.chunks import Chunk
from backend.store.drafts.refreshes import DONE, DRAFTING, LIVE, STORED, WAITING, RefreshState
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from backend.store.tables import draft_chunks
from tests.factories import draft, picture, settings, task
from tests.fakes import Answer, Model, host

CONFIG = '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'


class Studio:
    """What refreshing asks of Label Studio's client, of tasks with these versions' predictions."""

    def __init__(self, tasks: dict[int, list[str]]) -> None:
        self._ids = itertools.count(1)
        self.predictions: dict[int, list[dict[str, Any]]] = {id_: [] for id_ in tasks}
        for id_, versions in tasks.items():
            for version in versions:
                self.add(id_, version)
        self.labelled: set[int] = set()
        self.typed_in: set[int] = set()
        self.unreadable: set[int] = set()
        self.miscounted: set[int] = set()
        self.model_version = "captioner"
        self.requests = 0
        self.said: list[Any] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def add(self, task_id: int, version: str, text: str = "old") -> None:
        self.predictions[task_id].append({"id": next(self._ids), "model_version": version, "text": text})

    def held(self) -> dict[int, list[str]]:
        return {id_: [each["model_version"] for each in found] for id_, found in self.predictions.items()}

    def project(self, project_id: int) -> dict[str, Any]:
        self.requests += 1
        return {"id": project_id, "label_config": CONFIG, "model_version": self.model_version}

    def update_project(self, project_id: int, model_version: str) -> None:
        assert model_version in {*self.model_versions(project_id), "captioner"}, "Label Studio would refuse it"
        self.model_version = model_version
        self.said.append(model_version)

    def ml_backends(self, project_id: int) -> list[Any]:
        return [{"title": "captioner"}]

    def model_versions(self, project_id: int) -> dict[str, int]:
        names = [name for found in self.held().values() for name in found]
        return {name: names.count(name) for name in names}

    def unlabelled(
        self,
        project_id: int,
        after_task: int,
        size: int,
        unreadable: set[int],
        *,
        last: int | None = None,
        version: str | None = None,
        several: bool = False,
    ) -> tuple[list[Any], int]:
        self.requests += 1
        unreadable |= self.unreadable
        found = [
            {"id": id_, "data": {"image": f"/data/upload/1/{id_}.png"}, "predictions": list(predictions)}
            for id_, predictions in sorted(self.predictions.items())
            if id_ not in self.labelled | self.unreadable
            and id_ > after_task
            and (last is None or id_ <= last)
            and (version is None or any(version in each["model_version"] for each in predictions))
            and (not several or (len(predictions) > 1 and id_ not in self.miscounted))
        ]
        return found[:size], len(found)

    def tasks_being_edited(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        return self.typed_in & set(task_ids)

    def counts_little(self, project_id: int) -> bool:
        return True

    def import_predictions(self, project_id: int, predictions: Sequence[Any]) -> int:
        self.said.append([each["task"] for each in predictions])
        for each in predictions:
            text = each["result"][0]["value"]["text"][0] if each["result"] else ""
            self.add(each["task"], each["model_version"], text)
        self.meanwhile()
        return len(predictions)

    def delete_prediction(self, prediction_id: int) -> None:
        for id_, found in self.predictions.items():
            self.predictions[id_] = [each for each in found if each["id"] != prediction_id]
        self.said.append(-prediction_id)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


@pytest.fixture
def registry(store: Store) -> Registry:
    registry = Registry(store)
    for name in ("v1", "v2", "v3"):
        registry.register(ModelVersion(name, Path(name)))
    registry.promote(1, "v3", reason="for a test", by="test")
    return registry


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes when it is slept, and only then."""
    slept: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept)))
    return slept


def draft_all(project_id: int, tasks: Sequence[Task], version: ModelVersion) -> list[Draft | DraftFailure]:
    """Task 13 has no image; task 7 is blind."""
    return [
        DraftFailure(project_id, task.id, "There is no image.")
        if task.id == 13
        else Draft(project_id, task.id, version.name, str(task.image), "" if task.id == 7 else f"new {task.id}", 0.5)
        for task in tasks
    ]


def work(studio: Studio, store: Store, per_minute: int = 600000, seconds: float = 60) -> RefreshState:
    """One job."""
    registry = Registry(store)
    champion = registry.champion(1)
    assert champion
    Run(studio, store, registry, draft_all, champion, per_minute, 1, seconds).work()  # type: ignore[arg-type]
    return store.refresh_state(1)


def silent_for(store: Store, seconds: float) -> None:
    """As if the jobs that have a chunk had not been heard of for so long."""
    with store.writing(1) as connection:
        connection.execute(draft_chunks.update().values(heartbeat_at=now() - timedelta(seconds=seconds)))


def wait(store: Store) -> None:
    """As if the ten minutes were over."""
    store.order_refresh(1, due_at=now() - timedelta(seconds=1))


def test_live_only_tasks_with_a_draft_of_another_version_are_drafted_anew(store: Store, registry: Registry) -> None:
    studio = Studio({1: ["v2"], 2: ["v1"], 3: [], 4: ["v3"], 5: ["v1"], 6: ["somebody's"], 7: ["v2"]})
    studio.labelled = {5}
    state = work(studio, store)
    assert studio.said == [[2], [1, 7]], "the oldest version first, and nothing is deleted yet"
    assert (state.mode, state.version, state.state, state.stored, state.checked) == (LIVE, "v3", WAITING, 3, 3)
    assert [studio.predictions[id_][-1]["text"] for id_ in (1, 2, 7)] == ["new 1", "new 2", ""]
    assert work(studio, store).state == WAITING, "somebody may have them open"
    wait(store)
    state = work(studio, store)
    assert (state.state, state.deleted) == (DONE, 3)
    assert studio.held() == {1: ["v3"], 2: ["v3"], 3: [], 4: ["v3"], 5: ["v1"], 6: ["somebody's"], 7: ["v3"]}
    assert studio.model_version == "captioner"


def test_where_somebody_has_typed_the_old_draft_stays_and_is_tidied_the_next_time(
    store: Store, registry: Registry
) -> None:
    studio = Studio({1: ["v2"], 2: ["v2"]})
    studio.typed_in = {2}
    work(studio, store)
    wait(store)
    state = work(studio, store)
    assert (state.state, state.being_edited) == (WAITING, 1)
    assert studio.held() == {1: ["v3"], 2: ["v2", "v3"]}
    studio.typed_in, studio.labelled = set(), {1}
    wait(store)
    state = work(studio, store)
    assert (state.state, state.being_edited, studio.held()) == (DONE, 0, {1: ["v3"], 2: ["v3"]})


def test_stored_every_unlabelled_task_gets_one_and_the_version_is_switched_last(
    store: Store, registry: Registry
) -> None:
    studio = Studio({id_: ["v2"] if id_ % 2 else [] for id_ in range(1, 6)})
    studio.model_version, studio.labelled = "v2", {3}
    state = work(studio, store, per_minute=12)  # two a batch
    assert studio.said == [[1, 2], [4, 5], "v3"]
    assert (state.mode, state.state, state.stored, state.total) == (STORED, WAITING, 4, 4)
    wait(store)
    assert work(studio, store).state == DONE
    assert studio.held() == {1: ["v3"], 2: ["v3"], 3: ["v2"], 4: ["v3"], 5: ["v3"]}


def test_a_live_project_becomes_stored_when_all_are_there(store: Store, registry: Registry) -> None:
    studio = Studio({1: ["v3"], 2: []})
    store.begin_refresh(1, wanted=STORED)
    state = work(studio, store)
    assert (studio.said, state.mode, state.wanted) == ([[2], "v3"], STORED, None)


def test_tasks_that_come_later_are_stored_too(store: Store, registry: Registry) -> None:
    studio = Studio({1: []})
    store.begin_refresh(1, wanted=STORED)
    work(studio, store)
    wait(store)
    assert work(studio, store).state == DONE
    studio.predictions |= {4: [], 5: []}
    store.record(Event("TASKS_CREATED", 1, tasks=(task(4), task(5))))
    assert store.refresh_state(1).is_due("v3", store.newest_task(1))
    studio.said = []
    state = work(studio, store)
    assert (studio.said, state.state) == ([[4, 5]], DONE)
    assert not state.is_due("v3", store.newest_task(1))


def test_a_stored_project_without_any_draft_is_not_switched_to_nothing(store: Store, registry: Registry) -> None:
    studio = Studio({13: []})
    store.begin_refresh(1, wanted=STORED)
    state = work(studio, store)
    assert (studio.model_version, state.wanted, state.failed) == ("captioner", STORED, 1)


def test_what_cannot_be_drafted_keeps_what_it_has(store: Store, registry: Registry) -> None:
    studio = Studio({1: ["v2"], 13: ["v1", "v2"]})
    assert work(studio, store).failed == 1, "with the oldest version only"
    wait(store)
    work(studio, store)
    assert studio.held() == {1: ["v3"], 13: ["v1", "v2"]}


def test_a_task_that_cannot_be_read_is_named_and_keeps_none_waiting(store: Store, registry: Registry) -> None:
    studio = Studio({1: ["v2"], 2: ["v2"]})
    studio.unreadable = {1}
    assert work(studio, store).stored == 1
    assert studio.held() == {1: ["v2"], 2: ["v2", "v3"]}
    assert store.failures(1) == [DraftFailure(1, 1, "It cannot be read from Label Studio.")]


def test_after_a_rollback_what_is_still_there_is_not_stored_again(store: Store, registry: Registry) -> None:
    registry.promote(1, "v1", reason="for a test", by="test")
    studio = Studio({1: ["v1", "v3"], 2: ["v3"]})
    work(studio, store)
    wait(store)
    work(studio, store)
    assert studio.said[0] == [2]
    assert studio.held() == {1: ["v1"], 2: ["v1"]}


def test_many_old_drafts_are_deleted_with_few_writes(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    studio = Studio({id_: ["v2", "v3"] for id_ in range(1, 51)})
    work(studio, store)
    wait(store)
    saved: list[RefreshState] = []
    save = store.save_refresh

    def noted(*given: Any, **changes: Any) -> RefreshState | None:
        state = save(*given, **changes)
        assert state
        saved.append(state)
        return state

    monkeypatch.setattr(store, "save_refresh", noted)
    deleted = studio.delete_prediction

    def slowly(prediction_id: int) -> None:
        deleted(prediction_id)
        naps.append(0.1)

    monkeypatch.setattr(studio, "delete_prediction", slowly)
    assert work(studio, store).deleted == 50
    assert len([each for each in saved if 0 < each.deleted < 50]) == 2, "so often it looks whether it must end"
    assert len(saved) < 15


def test_a_draft_that_was_stored_twice_is_one_again(store: Store, registry: Registry) -> None:
    studio = Studio({1: ["v3", "v3"], 2: ["v2"]})
    studio.meanwhile = lambda: studio.add(2, "v3")  # Label Studio asked for it at the same time
    work(studio, store)
    wait(store)
    work(studio, store)
    assert studio.held() == {1: ["v3"], 2: ["v3"]}
    assert studio.predictions[1][0]["id"] == 1, "an annotation may have begun with the first"


def test_a_live_project_is_tidied_again_after_new_drafts_once_nobody_is_at_the_task(
    store: Store, registry: Registry
) -> None:
    studio = Studio({1: ["v3"], 2: [], 3: []})
    work(studio, store)
    wait(store)
    assert work(studio, store).state == DONE
    eleven_minutes_ago = now() - timedelta(minutes=11)
    assert not store.is_untidy(store.order_refresh(1, due_at=eleven_minutes_ago)), "nothing was asked since"
    studio.add(1, "v3")  # Label Studio asked twice at once, and may count one prediction only
    studio.miscounted = {1}
    studio.predictions[1][1]["created_at"] = now().isoformat()
    store.add_drafts(1, [draft(1, "v3")])
    assert not store.is_untidy(replace(store.refresh_state(1), due_at=now())), "not within ten minutes"
    assert store.is_untidy(store.refresh_state(1))
    state = work(studio, store)
    assert (state.state, state.being_edited, studio.held()[1]) == (WAITING, 1, ["v3", "v3"]), "it may be open"
    studio.predictions[1][1]["created_at"] = eleven_minutes_ago.isoformat()
    studio.typed_in = {1}
    wait(store)
    assert (work(studio, store).state, studio.held()[1]) == (WAITING, ["v3", "v3"])
    studio.typed_in = set()
    wait(store)
    assert (work(studio, store).state, studio.held()[1]) == (DONE, ["v3"])


def test_stopped_it_ends_at_once_and_goes_on_where_it_was(store: Store, registry: Registry) -> None:
    studio = Studio({id_: ["v2"] for id_ in range(1, 7)})
    studio.meanwhile = lambda: store.stop_refresh(1)
    state = work(studio, store, per_minute=12)
    assert studio.said == [[1, 2]]
    assert (state.stopped, state.heartbeat_at, state.is_due("v3", 0)) == (True, None, False)
    assert store.claim_refresh(1) is None
    registry.promote(1, "v1", reason="for a test", by="test")
    assert not store.refresh_state(1).is_due("v1", 0), "a person has said no"
    registry.rollback(1)
    studio.meanwhile = lambda: None
    assert store.resume_refresh(1).is_due("v3", 0)
    assert work(studio, store).state == WAITING
    assert studio.said == [[1, 2], [3, 4, 5, 6]]


def test_a_job_ends_when_its_minute_is_over_and_the_next_goes_on(
    store: Store, registry: Registry, naps: list[float]
) -> None:
    studio = Studio({id_: ["v2"] for id_ in range(1, 7)})
    state = work(studio, store, per_minute=12, seconds=15)
    assert (state.state, state.stored, state.after_task, state.heartbeat_at) == (DRAFTING, 4, 4, None)
    assert sum(naps) == 20, "twelve a minute, and a batch that was begun"
    assert (state.checked, state.total) == (4, 6)
    state = work(studio, store, per_minute=12)
    assert studio.said == [[1, 2], [3, 4], [5, 6]]
    assert (state.state, state.stored, state.seconds) == (WAITING, 6, sum(naps))


def test_a_killed_job_is_taken_up_after_half_a_minute_and_stores_nothing_twice(
    store: Store, registry: Registry
) -> None:
    studio = Studio({id_: ["v2"] for id_ in range(1, 5)})

    class KilledError(BaseException):
        pass

    def die() -> None:
        raise KilledError

    studio.meanwhile = die
    with pytest.raises(KilledError):
        work(studio, store, per_minute=12)
    silent_for(store, seconds=10)
    assert store.claim_chunk(1) is None
    silent_for(store, seconds=40)
    studio.meanwhile = lambda: None
    work(studio, store, per_minute=12)
    assert studio.said == [[1, 2], [3, 4]]
    assert store.chunks(1) == []


def test_it_is_heard_of_while_a_model_is_loaded(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.store.lease.RENEW_SECONDS", 0.01)
    heard = threading.Event()
    renew = store.renew_chunk

    def noted(chunk: Chunk) -> bool:
        renewed = renew(chunk)
        if store.chunks(1)[0].is_claimed:
            heard.set()
        return renewed

    def silent() -> None:
        """As while a model is loaded for longer than a job may not be heard of."""
        silent_for(store, seconds=40)
        heard.clear()
        assert heard.wait(20)

    monkeypatch.setattr(store, "renew_chunk", noted)
    studio = Studio({1: ["v2"]})
    studio.meanwhile = silent
    assert work(studio, store).state == WAITING


def test_a_further_promotion_ends_it_and_the_newer_version_is_spread(store: Store, registry: Registry) -> None:
    registry.promote(1, "v2", reason="for a test", by="test")
    studio = Studio({id_: ["v1"] for id_ in range(1, 5)})

    def promote() -> None:
        studio.meanwhile = lambda: None
        registry.promote(1, "v3", reason="for a test", by="test")

    studio.meanwhile = promote
    state = work(studio, store, per_minute=12)
    assert studio.said == [[1, 2]]
    assert (state.version, state.is_due("v3", 0)) == ("v2", True)
    work(studio, store)
    wait(store)
    state = work(studio, store)
    assert (state.version, state.state) == ("v3", DONE)
    assert studio.held() == {id_: ["v3"] for id_ in range(1, 5)}


def test_what_the_old_version_served_while_drafts_were_made_is_made_anew(store: Store, registry: Registry) -> None:
    studio = Studio({1: ["v2"], 2: []})
    work(studio, store)
    studio.add(2, "v2")  # by a web process that had not swapped yet
    wait(store)
    assert work(studio, store).state == WAITING
    assert studio.held() == {1: ["v3"], 2: ["v2", "v3"]}
    wait(store)
    assert work(studio, store).state == DONE
    assert studio.held() == {1: ["v3"], 2: ["v3"]}


@pytest.mark.parametrize("error", [LabelStudioError("Label Studio cannot be reached."), KeyError("what")])
def test_what_goes_wrong_is_noted_and_tried_again_later(store: Store, registry: Registry, error: Exception) -> None:
    studio = Studio({1: ["v2"]})

    def fail() -> None:
        raise error

    studio.meanwhile = fail
    state = work(studio, store)
    assert state.failure
    assert str(error) in state.failure
    assert not state.is_due("v3", 0)
    assert replace(state, due_at=state.read_at).is_due("v3", 0)
    studio.meanwhile = lambda: None
    assert work(studio, store).failure is None


@pytest.fixture
def uploads() -> Iterator[Any]:
    with host() as running:
        running.answers["/data/upload/1/photo.jpg"] = Answer(body=picture())
        yield running


def test_drafts_are_those_of_predict_and_recorded(
    tmp_path: Path, uploads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # real time
    given = settings(tmp_path, LABEL_STUDIO_URL=uploads.url, LABEL_STUDIO_API_KEY="0" * 40, CAPTIONER_BLIND_SHARE="1")
    store = Store(given.database_url)
    store.migrate()
    loaded: list[Path] = []

    def load(checkpoint: Path, device: str) -> Any:
        loaded.append(checkpoint)
        return Model(checkpoint.name)

    draft_all = drafter(given, store, Champions("cpu", load))
    assert not loaded
    version = ModelVersion("v1", tmp_path / "v1")
    for _ in range(2):
        assert [draft.text for draft in draft_all(1, [task(1)], version) if isinstance(draft, Draft)] == [""], (
            "it is blind"
        )
    assert loaded == [tmp_path / "v1"]
    again = drafter(given, store, Champions("cpu", load))
    assert again(1, [task(1)], version) == draft_all(1, [task(1)], version)
    assert len(loaded) == 1, "what has been drafted before needs no model"
    assert len(store.get_drafts(1, [1], "v1")) == 1


def test_nothing_is_done_without_an_api_key_a_model_or_a_label_studio(
    tmp_path: Path, store: Store, registry: Registry
) -> None:
    refresh_if_possible(settings(tmp_path), store, 1)
    assert store.refresh_state(1) == RefreshState(1)
    away = settings(tmp_path, LABEL_STUDIO_URL="http://127.0.0.1:9", LABEL_STUDIO_API_KEY="0" * 40)
    refresh_if_possible(away, store, 2)
    assert store.refresh_state(2) == RefreshState(2)
    refresh_if_possible(away, store, 1)
    assert "cannot be reached" in str(store.refresh_state(1).failure)
    assert not store.refresh_state(2).is_due(None, 5)
