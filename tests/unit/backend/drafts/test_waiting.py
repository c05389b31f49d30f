from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import labeling_config
from backend.domain.corrections import Draft, Event
from backend.domain.errors import LabelStudioError, LabelStudioRefusalError
from backend.drafts import waiting
from backend.label_studio import wire
from backend.store.keeping.forgetting import erase
from backend.store.keeping.traces import of_annotator
from backend.web.services import Services
from backend.web.watcher import Watcher
from tests.factories import correction, promoted, saved, task
from tests.fakes import Host
from tests.unit.backend.serving.test_reuse import process, studio  # noqa: F401 its pictures

CONFIG = labeling_config.shipped("caption")
TAGS = labeling_config.parse(CONFIG)
OWN, COPY = "v1 speaks", "a red dot"


class LabelStudio:
    """What is asked of Label Studio's client; every task has the prediction that /predict answered."""

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.editing: set[int] = set()
        self.error: LabelStudioError | None = None
        self.patched: list[int] = []

    def full_tasks(self, project_id: int, task_ids: Sequence[int], unreadable: set[int]) -> list[Any]:
        if self.error:
            raise self.error
        return [self.tasks[id_] for id_ in task_ids]

    def tasks_being_edited(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        return self.editing & set(task_ids)

    def update_prediction(self, prediction_id: int, **fields: Any) -> None:
        self.patched.append(prediction_id)
        held = (prediction for task in self.tasks.values() for prediction in task["predictions"])
        [prediction] = [each for each in held if each["id"] == prediction_id]
        prediction |= fields

    def texts(self) -> dict[int, str]:
        return {id_: each["predictions"][0]["result"][0]["value"]["text"][0] for id_, each in self.tasks.items()}


@pytest.fixture
def label_studio(monkeypatch: pytest.MonkeyPatch) -> LabelStudio:
    made = LabelStudio()
    monkeypatch.setattr(waiting, "LabelStudio", lambda url, key: made)
    return made


@pytest.fixture(params=[waiting.MANY, -1], ids=["few", "many"])
def services(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    studio: Host,  # noqa: F811
    label_studio: LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Services]:
    """Pictures 1, 2 and 3 are nearly the same, 4 is another; v1 has drafted all."""
    monkeypatch.setattr(waiting, "MANY", request.param)
    monkeypatch.setattr(waiting, "_are_fewer", lambda *numbers: True)
    made = process(tmp_path, studio)
    made.store.save_project(1, CONFIG)
    promoted(made, "v1")
    Watcher(made).load_champions()
    for draft in made.drafting.draft(1, [task(n, image=f"/data/upload/1/{n}.jpg") for n in (1, 2, 3, 4)], "v1"):
        assert isinstance(draft, Draft)
        others = {"total_annotations": 0, "cancelled_annotations": 0}
        prediction = {"id": 10 + draft.task_id, **wire.prediction(draft, TAGS)}
        label_studio.tasks[draft.task_id] = {"id": draft.task_id, "predictions": [prediction], **others}
    yield made
    made.store.close()


def follow(services: Services) -> None:
    """As the watcher does every second."""
    assert services.reuse
    waiting.follow(services.settings, services.store, services.reuse, 1, "v1")


def test_predictions_of_waiting_tasks_follow_the_corrections(services: Services, label_studio: LabelStudio) -> None:
    services.inbox.receive(saved(correction(1, COPY)))
    follow(services)
    assert label_studio.texts() == {1: OWN, 2: COPY, 3: COPY, 4: OWN}
    [prediction] = label_studio.tasks[2]["predictions"]
    assert (prediction["id"], prediction["score"], prediction["model_version"]) == (12, 1.0, "v1")
    assert prediction["result"][0]["meta"] == {"text": ["from task 1"]}
    services.inbox.receive(saved(correction(1, "a dark red dot", second=1)))
    services.inbox.receive(saved(correction(4, "of another picture")))
    follow(services)
    assert label_studio.texts() == {1: OWN, 2: "a dark red dot", 3: "a dark red dot", 4: OWN}
    services.inbox.receive(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(1,)))
    follow(services)
    assert label_studio.texts() == {1: OWN, 2: OWN, 3: OWN, 4: OWN}
    label_studio.patched.clear()
    follow(services)
    assert label_studio.patched == []
    # what the annotator saw is known
    services.inbox.receive(saved(correction(2, "v1 spoke")))
    assert services.store.corrections(1)[0].draft_text == OWN


def test_predictions_copied_from_a_forgotten_caption_change(services: Services, label_studio: LabelStudio) -> None:
    services.inbox.receive(saved(correction(1, COPY, annotator=7)))
    follow(services)
    assert label_studio.texts()[2] == COPY
    [found] = of_annotator(services.store, 7)
    erase(services.store, found)
    follow(services)
    assert label_studio.texts() == {1: OWN, 2: OWN, 3: OWN, 4: OWN}


def test_the_prediction_of_a_selected_task_follows_and_keeps_its_place(
    services: Services, label_studio: LabelStudio
) -> None:
    own = label_studio.tasks[2]["predictions"][0]
    label_studio.tasks[2]["predictions"] += [
        {**own, "id": 22, "model_version": "v1.select-3", "score": 0.25},
        {**own, "id": 32, "model_version": "v2.select-4", "score": 0.5},
    ]
    services.inbox.receive(saved(correction(1, COPY)))
    follow(services)
    first, selected, other = label_studio.tasks[2]["predictions"]
    assert (first["score"], selected["score"]) == (1.0, 0.25)
    assert selected["result"] == first["result"] != other["result"]
    services.inbox.receive(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(1,)))
    follow(services)
    assert [(each["result"], each["score"]) for each in (first, selected)] == [(own["result"], s) for s in (0.5, 0.25)]


def test_tasks_that_are_labelled_or_edited_keep_their_prediction(services: Services, label_studio: LabelStudio) -> None:
    label_studio.editing = {2}
    label_studio.tasks[3]["cancelled_annotations"] = 1  # its webhook has not come
    services.inbox.receive(saved(correction(1, COPY)))
    follow(services)
    assert label_studio.patched == []


def test_what_was_drafted_meanwhile_is_changed_too(services: Services, label_studio: LabelStudio) -> None:
    """A draft that was asked for once more is recorded as shown, but Label Studio may keep the first."""
    services.inbox.receive(saved(correction(1, COPY)))
    services.drafting.draft(1, [task(2, image="/data/upload/1/2.jpg")], "v1")
    follow(services)
    services.inbox.receive(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(1,)))
    services.drafting.draft(1, [task(2, image="/data/upload/1/2.jpg")], "v1")
    assert label_studio.texts()[2] == COPY
    follow(services)
    assert label_studio.texts() == {1: OWN, 2: OWN, 3: OWN, 4: OWN}


def test_it_is_tried_again_when_label_studio_was_away_but_not_when_it_refused(
    services: Services, label_studio: LabelStudio
) -> None:
    services.inbox.receive(saved(correction(1, COPY)))
    label_studio.error = LabelStudioError("Label Studio cannot be reached.")
    with pytest.raises(LabelStudioError):
        follow(services)
    label_studio.error = None
    follow(services)
    assert label_studio.texts()[2] == COPY
    services.inbox.receive(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(1,)))
    label_studio.error = LabelStudioRefusalError("There is no such project.", 404, "")
    follow(services)
    label_studio.error = None
    follow(services)
    assert label_studio.texts()[2] == COPY


def test_a_version_that_is_the_champion_no_more_changes_nothing(services: Services, label_studio: LabelStudio) -> None:
    promoted(services, "v2")
    services.inbox.receive(saved(correction(1, COPY)))
    follow(services)
    assert (label_studio.patched, services.store.reused_seq(1)) == ([], 0)


def test_every_process_follows_within_two_seconds_by_itself(
    services: Services,
    label_studio: LabelStudio,
    studio: Host,  # noqa: F811
) -> None:
    """Two watchers over one database: the webhook reaches one process, the drafts come from both."""
    other = process(services.settings.data_dir, studio)
    watchers = [Watcher(services), Watcher(other)]
    for watcher in watchers:
        watcher.start()
    try:
        assert all(watcher.loaded.wait(30) for watcher in watchers)
        services.inbox.receive(saved(correction(1, COPY)))
        began = time.monotonic()
        for each in (other, services):
            [draft] = each.drafting.draft(1, [task(3, image="/data/upload/1/3.jpg")], "v1")
            assert isinstance(draft, Draft)
            assert draft.text == COPY
        assert time.monotonic() - began < 2
        while label_studio.texts()[2] != COPY:
            assert time.monotonic() - began < 10, "two seconds, and what a busy machine takes"
            time.sleep(0.05)
    finally:
        for watcher in watchers:
            watcher.stop()
