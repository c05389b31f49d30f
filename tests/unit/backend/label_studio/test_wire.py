from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backend.domain.corrections import Draft, Task
from backend.domain.errors import RequestError
from backend.label_studio import wire
from labeling_config import Tags, parse, shipped

RECORDINGS = Path(__file__).parents[3] / "assets" / "recordings"
TAGS = Tags("image", "caption", "image", several=False)
PICTURES = {
    1: "/data/upload/1/aff8b37c-pic_0_%C3%A9.jpg",
    2: "/data/upload/1/9f9297c9-pic_1_%C3%A9.jpg",
    3: "/data/upload/1/021e5fc8-pic_2_%C3%A9.jpg",
    4: "/data/upload/1/048b5a8c-pic_3_%C3%A9.jpg",
}


def received(recording: str, path: str) -> Any:
    """The body of the first call to `path` that Label Studio made in a recorded exchange."""
    exchange = json.loads((RECORDINGS / f"{recording}.json").read_text())
    return copy.deepcopy(next(call["body"] for call in exchange["ml_backend_received"] if call["path"] == path))


def annotation_event(**annotation: Any) -> dict[str, Any]:
    """A webhook call for one annotation, its fields overridden."""
    body = received("31_create_corrected", "/webhook")
    body["annotation"].update(annotation)
    return dict(body)


def entry(*texts: Any, **fields: Any) -> dict[str, Any]:
    return {"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": list(texts)}} | fields


def test_predict_request() -> None:
    request = wire.predict_request(received("22_retrieve_predictions", "/predict"))
    assert request.project_id == 1
    assert request.tasks == tuple(Task(n, 1, PICTURES[n]) for n in (2, 3, 4))
    assert request.tags == TAGS


def test_predict_request_reads_the_image_from_any_field() -> None:
    body = received("15_test_predict", "/predict")
    body["label_config"] = '<View><Image name="pic" value="$photo"/><TextArea name="words" toName="pic"/></View>'
    body["tasks"] = [
        {"id": n, "data": data} for n, data in enumerate([{"photo": "s3://b/1"}, {"photo": ["a"]}, {}, None])
    ]
    request = wire.predict_request(body)
    assert [task.image for task in request.tasks] == ["s3://b/1", None, None, None]
    assert request.tags == Tags("pic", "words", "photo", False)


def test_setup_request() -> None:
    request = wire.setup_request(received("10_connect_ml", "/setup"))
    assert request.project_id == 1
    assert parse(request.label_config) == TAGS
    assert request.hostname == "http://127.0.0.1:8080"
    assert request.access_token == "<TOKEN>"


def test_setup_request_without_host_and_token() -> None:
    body = received("10_connect_ml", "/setup") | {"hostname": "", "access_token": None}
    request = wire.setup_request(body)
    assert (request.hostname, request.access_token) == (None, None)


@pytest.mark.parametrize("project", ["7.1795165004", "7", 7, {"id": 7}])
def test_a_project_is_named_in_four_ways(project: Any) -> None:
    assert wire.setup_request(received("10_connect_ml", "/setup") | {"project": project}).project_id == 7


@pytest.mark.parametrize(
    ("recording", "annotation_id", "task_id", "typed", "origin", "parent"),
    [
        ("30_accept_draft", 1, 1, "draft caption for task 1", "prediction", 1),
        ("31_create_corrected", 2, 2, "a human wrote this caption, with ünïcode", "prediction-changed", 2),
        ("32_update_annotation", 1, 1, "a corrected caption\n", "prediction-changed", 1),
    ],
)
def test_a_submitted_caption(
    recording: str, annotation_id: int, task_id: int, typed: str, origin: str, parent: int
) -> None:
    event = wire.event(received(recording, "/webhook"))
    (correction,) = event.corrections
    assert (correction.annotation_id, correction.project_id, correction.task_id) == (annotation_id, 1, task_id)
    assert (correction.typed, correction.texts) == ((typed,), (typed.strip(),))
    assert (correction.origin, correction.parent_prediction, correction.annotator) == (origin, parent, 1)
    assert correction.usable
    assert not correction.ground_truth
    assert event.tasks == (Task(task_id, 1, PICTURES[task_id]),)
    assert not event.asks_for_training


def test_the_time_and_the_seconds_taken() -> None:
    (correction,) = wire.event(received("32_update_annotation", "/webhook")).corrections
    assert correction.updated_at == datetime(2026, 11, 20, 8, 56, 47, 928116, tzinfo=UTC)
    assert correction.lead_time_seconds == 12.0


@pytest.mark.parametrize(
    ("parent", "name", "version"),
    [
        (9, "p1-v2", "p1-v2"),
        (9, "p1-v2.select-11", "p1-v2"),
        (8, "p1-v2", None),
        (None, "p1-v2", None),
        (9, None, None),
    ],
)
def test_the_version_whose_draft_was_shown(parent: int | None, name: str | None, version: str | None) -> None:
    """In stored mode the project's prediction comes with the annotation, and with a task all of its predictions."""
    body, prediction = annotation_event(), {"id": 9, "model_version": name}
    body["annotation"] |= {"prediction": prediction, "parent_prediction": parent}
    expected = {body["annotation"]["id"]: version} if version else {}
    assert wire.event(body).shown == expected
    task = {**body["task"], "annotations": [body["annotation"]], "predictions": [{"id": 7}, prediction, None]}
    assert wire.full_tasks([task], 1, TAGS).shown == expected


def test_a_skip() -> None:
    (correction,) = wire.event(received("33_skip_task", "/webhook")).corrections
    assert correction.was_cancelled
    assert correction.texts == ()
    assert not correction.usable


def test_an_empty_submit_is_not_a_skip() -> None:
    (correction,) = wire.event(annotation_event(result=[])).corrections
    assert not correction.was_cancelled
    assert not correction.usable


def test_an_update_may_skip_what_was_submitted() -> None:
    (correction,) = wire.event(annotation_event(was_cancelled=True)).corrections
    assert correction.texts
    assert not correction.usable


def test_annotations_from_predictions_come_as_lists_under_singular_keys() -> None:
    event = wire.event(received("36_predictions_to_annotations", "/webhook"))
    assert [(c.annotation_id, c.task_id, c.texts, c.origin) for c in event.corrections] == [
        (4, 3, ("draft caption for task 3",), None),
        (5, 4, ("draft caption for task 4",), None),
    ]
    assert event.tasks == (Task(3, 1, PICTURES[3]), Task(4, 1, PICTURES[4]))


@pytest.mark.parametrize("plural", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_singular_and_plural_keys_one_and_many(plural: bool, listed: bool) -> None:
    body = annotation_event()
    for noun in ("annotation", "task"):
        value = body.pop(noun)
        body[noun + "s" * plural] = [value] if listed else value
    event = wire.event(body)
    assert [c.annotation_id for c in event.corrections] == [2]
    assert [task.id for task in event.tasks] == [2]


def test_deletions() -> None:
    annotations = wire.event(received("35_delete_annotation", "/webhook"))
    assert (annotations.deleted_annotations, annotations.deleted_tasks) == ((2,), ())
    assert (annotations.corrections, annotations.tasks) == ((), ())
    tasks = wire.event(received("51_delete_task", "/webhook"))
    assert (tasks.deleted_annotations, tasks.deleted_tasks) == ((), (4,))
    assert (tasks.corrections, tasks.tasks) == ((), ())


def test_new_tasks() -> None:
    event = wire.event(received("37_import_with_annotation", "/webhook"))
    assert event.tasks == (Task(5, 1, PICTURES[1]),)
    assert event.corrections == ()


def test_start_training() -> None:
    event = wire.event(received("40_start_training", "/webhook"))
    assert event.asks_for_training
    assert event.project_id == 1
    assert (event.corrections, event.tasks, event.deleted_annotations, event.deleted_tasks) == ((), (), (), ())


@pytest.mark.parametrize("action", ["PROJECT_UPDATED", "LABEL_LINK_CREATED", "SOMETHING_NEW"])
def test_other_actions_have_no_effect(action: str) -> None:
    event = wire.event(received("40_start_training", "/webhook") | {"action": action})
    assert (event.action, event.corrections, event.deleted_tasks) == (action, (), ())


@pytest.mark.parametrize("action", ["PROJECT_UPDATED", "SOMETHING_NEW"])
def test_an_event_about_no_task_or_annotation_is_not_kept_whole(action: str) -> None:
    body = received("40_start_training", "/webhook") | {"action": action, "large": ["x"] * 1000}
    assert wire.event(body).body == {"action": action, "project": 1}


def test_secrets_and_the_project_stay_out_of_the_record() -> None:
    body = annotation_event()
    body["project"] |= {"token": "s3cret", "task_data_login": "s3cret", "task_data_password": "s3cret"}
    body["access_token"] = "s3cret"
    body["task"]["meta"] = {"inner": [{"token": "s3cret"}]}
    record = wire.event(body).body
    assert "s3cret" not in json.dumps(record)
    assert record["project"] == 1
    assert record["annotation"] == annotation_event()["annotation"]
    assert body["project"]["token"] == "s3cret"  # the caller's payload is left as it was


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["draft", "typed"], ("typed",)),
        (["draft", " \n"], ("draft",)),
        ([" a\tb \n c "], (" a\tb \n c ",)),
        ([""], ()),
        ([None, 3, "said"], ("said",)),
    ],
)
def test_one_caption_is_the_last_that_says_something(texts: list[Any], kept: tuple[str, ...]) -> None:
    (correction,) = wire.event(annotation_event(result=[entry(*texts)])).corrections
    assert correction.typed == kept
    assert correction.texts == tuple(" ".join(text.split()) for text in kept)


def test_several_captions_are_all_kept_where_the_box_takes_several() -> None:
    body = annotation_event(result=[entry("one", " ", "two ", "one", origin="manual")])
    body["project"]["label_config"] = shipped("multi_caption")
    (correction,) = wire.event(body).corrections
    assert correction.texts == ("one", "two")
    assert correction.typed == ("one", "two ")
    assert correction.origin == "manual"


def captions(result: Any) -> tuple[str, ...]:
    """The captions of an annotation with this result, in a project with other boxes too."""
    body = annotation_event(result=result)
    body["project"]["label_config"] = (
        '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/>'
        '<TextArea name="notes" toName="image"/>'
        '<Repeater on="$pages" indexFlag="[i]"><TextArea name="page_[i]" toName="image"/></Repeater></View>'
    )
    (correction,) = wire.event(body).corrections
    return correction.texts


@pytest.mark.parametrize(
    "result",
    [
        "a plain string",
        {"textarea": ["x"]},
        None,
        ["x"],
        [entry("other box", from_name="notes")],
        [entry("of the second page", from_name="page_1")],
        [entry("red bus", from_name="hint")],
        [{"from_name": "fault", "to_name": "image", "type": "choices", "value": {"choices": ["wrong object"]}}],
        [entry("x") | {"value": "x"}],
        [entry("x") | {"value": {"text": {"a": "x"}}}],
    ],
)
def test_what_is_not_a_caption_is_passed_over(result: Any) -> None:
    assert captions(result) == ()


def choice(*words: Any, name: str = "fault", **value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": list(words), **value}}


@pytest.mark.parametrize(
    ("result", "reasons"),
    [
        ([entry("a dog"), choice("object", "count")], ("object", "count")),
        ([choice("wording"), entry("a dog"), choice("wording", " count ")], ("wording", "count")),
        ([entry("a dog"), choice("object", name="quality")], ()),
        ([entry("a dog"), choice("object", x=1.0, y=2.0)], ()),
        ([entry("a dog"), choice("object") | {"type": "taxonomy"}], ()),
        ([entry("a dog"), choice("object") | {"value": "object"}], ()),
        ([entry("a dog"), choice("object") | {"value": {"choices": "object"}}], ()),
        ([entry("a dog"), choice(3, None, ["x"], "", "y" * 100)], ("y" * 64,)),
        ([entry("a dog")], ()),
        ("a plain string", ()),
    ],
)
def test_why_the_draft_was_wrong_is_what_the_choices_of_that_name_say(result: Any, reasons: tuple[str, ...]) -> None:
    body = annotation_event(result=result)
    body["project"]["label_config"] = shipped("review")
    (correction,) = wire.event(body).corrections
    assert correction.reasons == reasons


@pytest.mark.parametrize(
    ("result", "hints"),
    [
        ([entry("a red bus"), entry(" red\n bus ", from_name="hint")], ("red bus",)),
        ([entry("one", "two", "...", 3, from_name="hint"), entry("a red bus")], ("one", "two")),
        ([entry("a red bus"), entry("bus " * 90, from_name="hint")], (("bus " * 90)[:200],)),
        ([entry("a red bus"), entry("red bus", from_name="notes")], ()),
        ([entry("a red bus"), entry("red bus", from_name="hint") | {"value": {"text": ["x"], "x": 1.0}}], ()),
        ([entry("a red bus"), entry("red bus", from_name="hint") | {"value": "x"}, 3], ()),
        ([entry("a red bus")], ()),
    ],
)
def test_what_was_typed_into_the_box_for_hints_is_kept_beside_the_caption(result: Any, hints: tuple[str, ...]) -> None:
    body = annotation_event(result=result)
    body["project"]["label_config"] = shipped("guided")
    (correction,) = wire.event(body).corrections
    assert correction.hints == hints
    assert correction.texts == ("a red bus",)


def test_a_caption_box_that_is_called_hint_has_captions() -> None:
    body = annotation_event(result=[entry("a red bus", from_name="hint")])
    body["project"]["label_config"] = (
        '<View><Image name="image" value="$image"/><TextArea name="hint" toName="image"/></View>'
    )
    (correction,) = wire.event(body).corrections
    assert (correction.texts, correction.hints) == (("a red bus",), ())


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        ([entry("before the box had its new name", from_name="old")], ("before the box had its new name",)),
        ([entry("before", from_name="old"), entry("now")], ("now",)),
        ([entry("before", from_name="old"), entry("")], ()),
        ([entry("of another box", from_name="notes"), entry("before", from_name="old")], ("before",)),
        ([entry("a title", from_name="title"), entry("a caption", from_name="Caption")], ("a caption",)),
        ([entry("first", from_name="a"), entry("of another box", from_name="b")], ("first",)),
        ([entry("first", from_name="a"), entry("last", from_name="a")], ("last",)),
        ([entry("of a region", from_name="old", value={"text": ["of a region"], "x": 1.0, "y": 2.0})], ()),
    ],
)
def test_a_text_under_a_name_that_the_config_had_before_counts_while_none_stands_under_the_present_one(
    result: Any, kept: tuple[str, ...]
) -> None:
    assert captions(result) == kept


def test_a_caption_given_as_one_string_counts() -> None:
    (correction,) = wire.event(annotation_event(result=[entry() | {"value": {"text": "as one"}}])).corrections
    assert correction.texts == ("as one",)


def test_users_and_predictions_may_be_objects_or_missing() -> None:
    body = annotation_event(completed_by={"id": 9, "email": "a@b"}, parent_prediction=None, lead_time=None)
    (correction,) = wire.event(body).corrections
    assert (correction.annotator, correction.parent_prediction, correction.lead_time_seconds) == (9, None, None)


def test_a_project_without_a_caption_box_has_no_captions_but_is_recorded() -> None:
    body = annotation_event()
    body["project"]["label_config"] = "<View></View>"
    event = wire.event(body)
    assert (event.corrections, event.tasks) == ((), ())
    assert event.body["annotation"]["id"] == 2


def test_export() -> None:
    export = json.loads((RECORDINGS / "50_export.json").read_text())["label_studio_response"]["body"]
    read = wire.full_tasks(export, 1, TAGS)
    tasks, corrections = read.tasks, read.corrections
    assert tasks == (*(Task(n, 1, PICTURES[n]) for n in (1, 2, 3, 4)), Task(5, 1, PICTURES[1]))
    assert [(c.annotation_id, c.task_id, c.texts, c.was_cancelled, c.ground_truth) for c in corrections] == [
        (1, 1, ("a corrected caption",), False, False),
        (7, 2, ("auto train caption",), False, False),
        (3, 3, (), True, False),
        (4, 3, ("draft caption for task 3",), False, False),
        (5, 4, ("draft caption for task 4",), False, False),
        (6, 5, ("imported caption",), False, True),
    ]
    assert [task.created_at for task in tasks] == [datetime.fromisoformat(entry["created_at"]) for entry in export]
    assert corrections[0].created_at == datetime.fromisoformat(export[0]["annotations"][0]["created_at"])


def test_a_task_is_another_one_after_every_change_that_its_listing_shows() -> None:
    entry = {"id": 1, "data": {"image": "/a.jpg", "other": 1}, "updated_at": "2026-01-01T00:00:00Z"}
    entry |= {"total_annotations": 1, "cancelled_annotations": 0}
    changes: list[dict[str, Any]] = [
        {"updated_at": "2026-01-01T00:00:01Z"},
        {"total_annotations": 2},
        {"cancelled_annotations": 1},
        {"data": {"image": "/b.jpg"}},
    ]
    seen = [wire.task_summaries([{**entry, **change}], 1, TAGS)[0].seen for change in [{}, *changes]]
    assert len(set(seen)) == 5
    assert wire.task_summaries([{**entry, "annotations": [], "total_predictions": 7}], 1, TAGS)[0].seen == seen[0]
    assert wire.full_tasks([entry], 1, TAGS).tasks[0].seen == seen[0], "the same, listed or read in full"


def test_an_export_agrees_with_the_events_it_repeats() -> None:
    export = json.loads((RECORDINGS / "50_export.json").read_text())["label_studio_response"]["body"]
    corrections = wire.full_tasks(export, 1, TAGS).corrections
    assert wire.event(received("32_update_annotation", "/webhook")).corrections[0] in corrections
    assert wire.event(received("33_skip_task", "/webhook")).corrections[0] in corrections


def test_a_prediction_is_what_label_studio_stored() -> None:
    draft = Draft(project_id=1, task_id=1, version="rec-v1", image="x", text="draft caption for task 1", score=0.6)
    recorded = json.loads((RECORDINGS / "20_open_task_dm.json").read_text())
    (stored,) = recorded["label_studio_response"]["body"]["predictions"]
    prediction = wire.prediction(draft, TAGS)
    assert prediction == {key: stored[key] for key in ("model_version", "score", "result")}


def test_the_prediction_of_a_blind_task_is_no_failure_and_shows_nothing() -> None:
    draft = Draft(project_id=1, task_id=1, version="v1", image="x", text="", score=0.6)
    assert wire.prediction(draft, TAGS) == {"model_version": "v1", "score": 0.6, "result": []}


def test_a_prediction_uses_the_names_of_the_config() -> None:
    draft = Draft(project_id=1, task_id=1, version="v", image="x", text="t", score=0.5)
    (result,) = wire.prediction(draft, Tags("pic", "words", "photo", False))["result"]
    assert (result["from_name"], result["to_name"]) == ("words", "pic")


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


PREDICT = {"tasks": [], "project": "1.2", "label_config": shipped("caption")}


@pytest.mark.parametrize(
    ("decode", "payload", "sentence"),
    [
        (wire.predict_request, None, "not a JSON object"),
        (wire.predict_request, [], "not a JSON object"),
        (wire.predict_request, PREDICT | {"tasks": None}, 'no list "tasks"'),
        (wire.predict_request, PREDICT | {"tasks": ["x"]}, "A task is not a JSON object"),
        (wire.predict_request, PREDICT | {"tasks": [{"data": {}}]}, '"id" of a task'),
        (wire.predict_request, PREDICT | {"tasks": [{"id": True, "data": {}}]}, '"id" of a task'),
        (wire.predict_request, PREDICT | {"project": None}, "names no project"),
        (wire.predict_request, PREDICT | {"project": "x.1"}, "names no project"),
        (wire.predict_request, PREDICT | {"project": 1.5}, "names no project"),
        (wire.predict_request, PREDICT | {"label_config": None}, 'no text "label_config"'),
        (wire.predict_request, PREDICT | {"label_config": "<View/>"}, "no <Image>"),
        (wire.predict_request, PREDICT | {"params": ["context"]}, '"params" of the request are not a JSON object'),
        (wire.setup_request, {"project": "1.2"}, 'no text "schema"'),
        (wire.setup_request, {"project": "1.2", "schema": "<View/>", "hostname": 7}, '"hostname" of the request is no'),
        (wire.setup_request, {"project": "1.2", "schema": "<View/>", "access_token": {}}, '"access_token" of the'),
        (wire.event, annotation_event(was_cancelled="false"), '"was_cancelled" of annotation 2 is neither true nor'),
        (wire.event, annotation_event(ground_truth=1), '"ground_truth" of annotation 2 is neither true nor false'),
        (wire.event, "x", "not a JSON object"),
        (wire.event, {"project": {"id": 1}}, 'no text "action"'),
        (wire.event, {"action": "ANNOTATION_CREATED"}, "names no project"),
        (wire.event, {"action": "TASKS_DELETED", "project": {"id": 1}, "tasks": [{}]}, '"id" of a task'),
        (wire.event, {"action": "TASKS_DELETED", "project": {"id": 1}, "tasks": [1]}, "not a JSON object"),
        (wire.event, annotation_event(id=None), '"id" of an annotation'),
        (wire.event, annotation_event(task=None), "Annotation 2 has no number"),
        (wire.event, annotation_event(updated_at="yesterday"), 'Annotation 2 has no valid "updated_at"'),
        (wire.event, annotation_event(updated_at=None), 'no valid "updated_at"'),
        (wire.event, annotation_event(updated_at="0001-01-01T00:00:00+14:00"), 'no valid "updated_at"'),
        (wire.event, annotation_event(updated_at="9999-12-31T23:59:59-14:00"), 'no valid "updated_at"'),
        (wire.event, annotation_event(id=2**63), '"id" of an annotation'),
        (wire.event, annotation_event(id=-1), '"id" of an annotation'),
        (wire.event, annotation_event(task=2**70), "Annotation 2 has no number"),
        (wire.predict_request, PREDICT | {"tasks": [{"id": 10**30, "data": {}}]}, '"id" of a task'),
        (wire.predict_request, PREDICT | {"project": str(2**63)}, "names no project"),
        (wire.predict_request, PREDICT | {"project": "9" * 5000}, "names no project"),
        (wire.predict_request, PREDICT | {"project": 10**5000}, "names no project"),
        (wire.setup_request, {"project": "0.1", "schema": "<View/>"}, "names no project"),
        (wire.event, {"action": "PROJECT_UPDATED", "project": {"id": 0}}, "names no project"),
        (wire.event, {"action": "PROJECT_UPDATED", "project": 1, "x": nested(101)}, "levels deep"),
    ],
)
def test_malformed_requests_are_refused_in_one_sentence(decode: Any, payload: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence) as caught:
        decode(payload)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("export", [{}, ["x"], [{"id": 1, "data": {}, "annotations": ["x"]}]])
def test_malformed_exports_are_refused(export: Any) -> None:
    with pytest.raises(RequestError, match="export"):
        wire.full_tasks(export, 1, TAGS)


@pytest.mark.parametrize(
    ("payload", "project_id"), [({}, None), ({"project": None}, None), ({"project": "4.17"}, 4), ({"project": "4"}, 4)]
)
def test_a_request_may_name_a_project(payload: dict[str, Any], project_id: int | None) -> None:
    assert wire.project_of(payload) == project_id


def test_a_project_that_is_no_number() -> None:
    with pytest.raises(RequestError, match="names no project"):
        wire.project_of({"project": "mine"})


def test_what_no_database_takes_is_replaced_everywhere() -> None:
    """Lone surrogates, NUL and NaN pass JSON, and neither UTF-8 nor PostgreSQL."""
    body = annotation_event(result=[entry("hi \ud83d there \ud83d\ude00\0")], lead_time=float("nan"))
    body["\ud800"] = [float("inf"), "\udfff"]
    event = wire.event(body)
    (correction,) = event.corrections
    assert correction.texts == ("hi there 😀",)
    assert correction.typed == ("hi \ufffd there 😀\ufffd",)
    assert correction.lead_time_seconds is None
    assert event.body["\ufffd"] == [None, "\ufffd"]
    json.dumps(event.body, ensure_ascii=False, allow_nan=False).encode()
    setup = wire.setup_request({"project": "1.1", "schema": "<View>\ud800</View>", "hostname": "http://\ud800"})
    assert (setup.label_config, setup.hostname) == ("<View>\ufffd</View>", "http://\ufffd")
    (task,) = wire.predict_request(PREDICT | {"tasks": [{"id": 1, "data": {"image": "/data/\ud800"}}]}).tasks
    assert task.image == "/data/\ufffd"
    assert wire.event({"action": "\ud800", "project": 1}).action == "\ufffd"
    (exported,) = wire.full_tasks([{"id": 1, "data": {"image": "/\ud800"}}], 1, TAGS).tasks
    assert exported.image == "/\ufffd"


@pytest.mark.parametrize("seconds", [10**400, -1, "long", None])
def test_a_lead_time_that_is_none(seconds: Any) -> None:
    (correction,) = wire.event(annotation_event(lead_time=seconds)).corrections
    assert correction.lead_time_seconds is None


def test_a_user_with_an_impossible_id_is_nobody() -> None:
    (correction,) = wire.event(annotation_event(completed_by=2**70)).corrections
    assert correction.annotator is None


def test_long_names_fit_their_columns() -> None:
    assert wire.event({"action": "X" * 1000, "project": 1}).action == "X" * 64
    (correction,) = wire.event(annotation_event(result=[entry("hi", origin="x" * 1000)])).corrections
    assert correction.origin == "x" * 64


@pytest.mark.parametrize("text", ["...", "😀", "\u200b", "\u200e", "\ud83d", "- -", "'"])
def test_a_text_without_a_word_is_no_caption(text: str) -> None:
    event = wire.event(annotation_event(result=[entry("a dog", text)]))
    assert event.corrections[0].texts == ("a dog",)
    (alone,) = wire.event(annotation_event(result=[entry(text)])).corrections
    assert not alone.usable


def test_the_config_of_a_project_that_is_only_named_is_asked_for() -> None:
    body = annotation_event() | {"project": 1}
    assert wire.event(body).corrections == ()
    asked: list[int] = []

    def label_config_of(project_id: int) -> str:
        asked.append(project_id)
        return shipped("caption")

    (correction,) = wire.event(body, label_config_of).corrections
    assert correction.texts == ("a human wrote this caption, with ünïcode",)
    wire.event(annotation_event(), label_config_of)
    assert asked == [1], "the project in the call itself goes before"
