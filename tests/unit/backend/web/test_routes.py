"""The endpoints, asked what Label Studio 1.23.2 was recorded to ask."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.serving import room
from backend.serving.lanes import Lane
from backend.web.app import create_app
from backend.web.services import Services
from labeling_config import shipped
from tests import factories
from tests.factories import picture, promoted, served
from tests.fakes import Answer, Host, Model, host

RECORDINGS = Path(__file__).parents[3] / "assets" / "recordings"
REQUESTS = [
    (path.stem, number, received)
    for path in sorted(RECORDINGS.glob("*.json"))
    for number, received in enumerate(json.loads(path.read_text()).get("ml_backend_received", []))
]


def recorded(name: str, path: str) -> dict[str, Any]:
    """The body of the first recorded request to `path` in the recording called `name`."""
    found = next(received["body"] for stem, _, received in REQUESTS if stem == name and received["path"] == path)
    return copy.deepcopy(found)


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        uploads = {
            task["data"]["image"] for _, _, r in REQUESTS if r["path"] == "/predict" for task in r["body"]["tasks"]
        }
        for number, upload in enumerate(sorted(uploads)):
            running.answers[upload] = Answer(200, picture((number, 0, 0)))
        yield running


@pytest.fixture
def services(tmp_path: Path, studio: Host) -> Services:
    return factories.backend(tmp_path, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY="a" * 40)


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


def test_there_are_recordings() -> None:
    assert {received["path"] for _, _, received in REQUESTS} == {"/health", "/setup", "/predict", "/webhook"}


@pytest.mark.parametrize(("name", "number", "received"), REQUESTS, ids=lambda value: str(value)[:40])
def test_every_recorded_request_is_answered(
    client: FlaskClient, services: Services, name: str, number: int, received: dict[str, Any]
) -> None:
    served(services, "v1")
    answer = client.open(received["path"], method=received["method"], json=received.get("body"))
    assert answer.status_code == 200
    assert isinstance(answer.json, dict)
    if received["path"] == "/setup":
        assert answer.json == {"model_version": "v1"}
    if received["path"] == "/predict":
        assert len(answer.json["results"]) == len(received["body"]["tasks"])
        for item in answer.json["results"]:
            assert item["model_version"] == "v1"
            assert 0 < item["score"] <= 1
            (result,) = item["result"]
            assert (result["from_name"], result["to_name"], result["type"]) == ("caption", "image", "textarea")
            assert [text for text in result["value"]["text"] if text] == result["value"]["text"]
    if received["path"] == "/webhook":
        assert answer.json["status"] == "ok"


def test_the_whole_recording_leaves_what_label_studio_holds(client: FlaskClient, services: Services) -> None:
    for _, _, received in REQUESTS:
        assert client.open(received["path"], method=received["method"], json=received.get("body")).status_code == 200
    kept = {c.annotation_id: c.texts for c in services.store.corrections(1)}
    # 2 was deleted, 3 skipped, 5 went with its task 4; those of the import send no event
    assert kept == {1: ("a corrected caption",), 4: ("draft caption for task 3",)}


def test_health_says_up(client: FlaskClient) -> None:
    for path in ["/health", "/"]:
        assert client.get(path).json == {"status": "UP", "model_class": "CaptionerModel"}


def test_a_project_nothing_serves_is_untrained_and_gets_no_drafts(client: FlaskClient) -> None:
    assert client.post("/setup", json=recorded("10_connect_ml", "/setup")).json == {"model_version": "untrained"}
    body = recorded("22_retrieve_predictions", "/predict")
    assert client.post("/predict", json=body).json == {"results": [[] for _ in body["tasks"]]}


def test_setup_remembers_the_project(client: FlaskClient, services: Services) -> None:
    body = recorded("10_connect_ml", "/setup")
    client.post("/setup", json=body)
    project = services.store.get_project(1)
    assert project is not None
    assert (project.label_config, project.hostname) == (body["schema"], body["hostname"])
    assert project.access_token == body["access_token"]


def test_setup_refuses_a_config_without_a_caption_box(client: FlaskClient) -> None:
    body = recorded("10_connect_ml", "/setup") | {"schema": '<View><Image name="i" value="$i"/></View>'}
    answer = client.post("/setup", json=body)
    assert answer.status_code == 400
    assert "no <TextArea>" in answer.get_json()["error"]


def test_setup_refuses_a_config_that_repeats_its_images(client: FlaskClient) -> None:
    schema = (
        '<View><Repeater on="$pages"><Image name="page_{{idx}}" value="$pages[{{idx}}].url"/>'
        '<TextArea name="caption_{{idx}}" toName="page_{{idx}}"/></Repeater></View>'
    )
    answer = client.post("/setup", json=recorded("10_connect_ml", "/setup") | {"schema": schema})
    assert answer.status_code == 400
    assert "one image and one caption box a task" in answer.get_json()["error"]


def test_a_failed_image_is_an_empty_list_in_its_place(client: FlaskClient, services: Services, studio: Host) -> None:
    served(services, "v1")
    body = recorded("22_retrieve_predictions", "/predict")
    studio.answers[body["tasks"][1]["data"]["image"]] = Answer(500)
    results = client.post("/predict", json=body).get_json()["results"]
    assert results[1] == []
    assert all(item["model_version"] == "v1" for place, item in enumerate(results) if place != 1)
    assert [failure.task_id for failure in services.store.failures(1)] == [body["tasks"][1]["id"]]


def test_tags_and_data_key_are_the_configs(client: FlaskClient, services: Services, studio: Host) -> None:
    served(services, "v1")
    body = recorded("15_test_predict", "/predict")
    (image,) = [task["data"].pop("image") for task in body["tasks"]]
    body["tasks"][0]["data"]["photo"] = image
    body["label_config"] = '<View><Image name="pic" value="$photo"/><TextArea name="words" toName="pic"/></View>'
    (item,) = client.post("/predict", json=body).get_json()["results"]
    assert (item["result"][0]["from_name"], item["result"][0]["to_name"]) == ("words", "pic")
    body["tasks"][0]["data"] = {"pages": [{"photo": image}]}
    body["label_config"] = body["label_config"].replace("$photo", "$pages[0].photo")
    assert client.post("/predict", json=body).get_json()["results"] == [item]


def test_the_same_request_gets_the_same_answer(client: FlaskClient, services: Services) -> None:
    served(services, "v1")
    body = recorded("22_retrieve_predictions", "/predict")
    assert client.post("/predict", json=body).json == client.post("/predict", json=body).json


def test_more_than_may_wait_is_503_and_says_when_to_ask_again(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    model = Model("v1", gate)
    services.champions._load = lambda checkpoint, device: model
    served(services, "v1")
    body = recorded("22_retrieve_predictions", "/predict")
    monkeypatch.setitem(room.MOST, Lane.SMALL, len(body["tasks"]))
    one = body | {"tasks": [body["tasks"][0] | {"id": 77}]}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: client.application.test_client().post("/predict", json=body))
        assert model.started.wait(20)
        answer = client.post("/predict", json=one)
        gate.set()
        assert all(first.result(20).get_json()["results"])
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    waiting = len(body["tasks"])
    assert answer.get_json() == {
        "error": f"{waiting} images wait for their captions, and at most {waiting} may: ask again in 30 seconds."
    }
    assert client.post("/predict", json=one).get_json()["results"][0]


def test_no_tasks_no_results(client: FlaskClient) -> None:
    body = recorded("15_test_predict", "/predict") | {"tasks": []}
    assert client.post("/predict", json=body).json == {"results": []}


def test_a_correction_is_committed_before_the_answer_even_without_redis(
    client: FlaskClient, services: Services
) -> None:
    client.post("/webhook", json=recorded("31_create_corrected", "/webhook"))
    (correction,) = services.store.corrections(1)
    assert correction.texts == ("a human wrote this caption, with ünïcode",)


def test_start_training_names_its_job_when_there_is_something_to_learn(client: FlaskClient, services: Services) -> None:
    start = recorded("40_start_training", "/webhook")
    assert client.post("/webhook", json=start).json == {"status": "ok"}
    client.post("/webhook", json=recorded("31_create_corrected", "/webhook"))
    answer = client.post("/webhook", json=start).get_json()
    (retrain,) = services.store.retrains(1)
    assert answer == {"status": "ok", "job": f"retrain-{retrain.snapshot}"}


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/versions"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe"])
def test_what_is_no_json_object_is_400(client: FlaskClient, path: str, body: bytes) -> None:
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json == {"error": "The request body is not a JSON object."}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/setup", {}),
        ("/setup", {"project": "x", "schema": "<View/>"}),
        ("/predict", {"project": "1.1"}),
        ("/predict", {"project": "1.1", "label_config": "<View>", "tasks": []}),
        ("/predict", {"project": "1.1", "label_config": "<View/>", "tasks": {}}),
        ("/webhook", {}),
        ("/webhook", {"action": "ANNOTATION_CREATED"}),
        ("/webhook", {"action": "ANNOTATIONS_DELETED", "project": {"id": 1}, "annotations": [{"id": "x"}]}),
        ("/versions", {"project": "x"}),
    ],
    ids=str,
)
def test_a_malformed_request_is_400_with_a_sentence(client: FlaskClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert list(answer.get_json()) == ["error"]
    assert answer.get_json()["error"].endswith(".")


def test_versions(client: FlaskClient, services: Services) -> None:
    assert client.get("/versions").json == {"versions": []}
    promoted(services, "p1-v1")
    promoted(services, "p1-v2")
    assert set(client.get("/versions").get_json()["versions"]) == {"p1-v1", "p1-v2"}
    assert set(client.post("/versions", json={"project": "1.1795165004"}).get_json()["versions"]) == {"p1-v1", "p1-v2"}
    assert client.get("/versions?project=2").status_code == 200


def test_serving_tells_what_is_in_memory_and_whose_it_is(client: FlaskClient, services: Services) -> None:
    served(services, "v1", project_id=0)
    served(services, "v2", project_id=7)
    database = services.store.identity
    assert client.get("/serving").json == {"serving": {"0": "v1", "7": "v2"}, "refused": {}, "database": database}


@pytest.mark.parametrize("levels", [500, 5000, 200_000])
@pytest.mark.parametrize("path", ["/webhook", "/setup", "/predict"])
def test_what_is_nested_too_deep_is_400(client: FlaskClient, path: str, levels: int) -> None:
    body = b'{"action": "PROJECT_UPDATED", "project": 1, "x": ' + b"[" * levels + b"]" * levels + b"}"
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert "deep" in answer.get_json()["error"]


def test_a_project_number_beyond_all_is_400(client: FlaskClient) -> None:
    assert client.get(f"/versions?project={'9' * 30}").status_code == 400


def test_a_reference_with_half_a_character_fails_alone(client: FlaskClient, services: Services) -> None:
    served(services, "v1")
    body = recorded("22_retrieve_predictions", "/predict")
    body["tasks"][1]["data"]["image"] = "/data/upload/1/\ud800.png"
    results = client.post("/predict", json=body).get_json()["results"]
    assert [bool(item) for item in results] == [True, False, True]


def test_a_photo_of_several_jpegs_is_drafted_like_any_other(
    client: FlaskClient, services: Services, studio: Host
) -> None:
    served(services, "v1")
    body = recorded("15_test_predict", "/predict")
    studio.answers[body["tasks"][0]["data"]["image"]] = Answer(200, picture(kind="MPO"))
    assert client.post("/predict", json=body).get_json()["results"][0]["model_version"] == "v1"


def test_an_event_that_only_numbers_its_project_is_read_by_the_config_of_setup(
    client: FlaskClient, services: Services
) -> None:
    client.post("/setup", json=recorded("10_connect_ml", "/setup"))
    client.post("/webhook", json=recorded("31_create_corrected", "/webhook") | {"project": 1})
    assert [correction.texts for correction in services.store.corrections(1)] == [
        ("a human wrote this caption, with ünïcode",)
    ]


def test_the_wait_for_the_champions_is_part_of_the_budget(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(services, "v1")
    clock = [1000.0]

    def wait(seconds: float) -> bool:
        clock[0] += 80
        return True

    for module in ("web.routes", "serving.drafting"):
        monkeypatch.setattr(f"backend.{module}.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(services, "await_champions", wait)
    body = recorded("15_test_predict", "/predict")
    assert client.post("/predict", json=body).get_json()["results"] == [[]]
    assert "Its turn did not come within 75 seconds" in services.store.failures(1)[0].reason


def asked(hint: Any, *more: dict[str, Any], name: str = "hint") -> dict[str, Any]:
    """What Label Studio sends in interactive mode when this has been typed into that box: one task, with the editor's
    context."""
    body = recorded("15_test_predict", "/predict") | {"label_config": shipped("guided")}
    result = {"id": "x1", "from_name": name, "to_name": "image", "type": "textarea", "origin": "manual"}
    context = {"result": [{**result, "value": {"text": hint}}, *more]}
    body["params"] = {**body["params"], "context": context}
    return body


def test_a_hint_is_answered_with_the_completed_caption_which_is_no_draft(
    client: FlaskClient, services: Services
) -> None:
    served(services, "v1")
    body = asked(["red  bus"])
    (item,) = client.post("/predict", json=body).get_json()["results"]
    assert item == {
        "model_version": "v1",
        "score": 0.4,
        "result": [
            {
                "from_name": "caption",
                "to_name": "image",
                "type": "textarea",
                "value": {"text": ["red bus, says v1"]},
            }
        ],
    }
    ids = [each["id"] for each in body["tasks"]]
    assert services.store.get_drafts(1, ids, "v1") == []
    body["params"]["context"] = None
    (draft,) = client.post("/predict", json=body).get_json()["results"]
    assert draft["result"][0]["value"]["text"][0].startswith("v1 on ")
    assert [each.text for each in services.store.get_drafts(1, ids, "v1")] == draft["result"][0]["value"]["text"]
    (another,) = client.post("/predict", json=asked(["Two", "dog"])).get_json()["results"]
    assert another["result"][0]["value"]["text"] == ["dog, says v1"], "the last one counts, with a draft or without"


@pytest.mark.parametrize(
    "context",
    [
        *(asked(hint)["params"]["context"] for hint in ([], [""], ["..."], None, 3, [{}])),
        asked(["a bus"], name="caption")["params"]["context"],
        {"result": ["x"]},
        {"result": "x"},
        {},
        [],
        "x",
    ],
    ids=str,
)
def test_where_nothing_is_typed_into_the_box_for_hints_the_draft_is_given(
    client: FlaskClient, services: Services, context: Any
) -> None:
    served(services, "v1")
    body = asked([]) | {"params": {"context": context}}
    (item,) = client.post("/predict", json=body).get_json()["results"]
    assert item["result"][0]["value"]["text"][0].startswith("v1 on ")


def test_a_hint_before_there_is_a_model_is_answered_with_nothing(client: FlaskClient) -> None:
    assert client.post("/predict", json=asked(["red bus"])).get_json()["results"] == [
        {"model_version": "untrained", "score": 0.0, "result": []}
    ]


def test_a_hint_for_a_blind_task_is_answered_with_nothing(tmp_path: Path, studio: Host) -> None:
    environment = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": "a" * 40, "CAPTIONER_BLIND_SHARE": "0.5"}
    services = factories.backend(tmp_path, **environment)
    client = create_app(services).test_client()
    served(services, "v1")
    body = asked(["red bus"])
    task = body["tasks"][0]
    answers = {}
    for number in range(12):
        studio.answers[f"/data/upload/1/{number}"] = Answer(200, picture((200, number, 0)))
        body["tasks"] = [task | {"id": number, "data": {"image": f"/data/upload/1/{number}"}}]
        (answers[number],) = client.post("/predict", json=body).get_json()["results"]
    blind = {number for number, answer in answers.items() if not answer["result"]}
    assert 0 < len(blind) < 12
    assert {(answers[number]["model_version"], answers[number]["score"]) for number in blind} == {("v1", 0.0)}
    tasks = [task | {"id": number, "data": {"image": f"/data/upload/1/{number}"}} for number in range(12)]
    drafts = client.post("/predict", json=body | {"tasks": tasks, "params": None}).get_json()["results"]
    assert {number for number, draft in enumerate(drafts) if not draft["result"]} == blind


def test_a_hint_for_an_image_that_cannot_be_read_is_answered_with_nothing_and_no_failure_of_a_draft(
    client: FlaskClient, services: Services, studio: Host
) -> None:
    served(services, "v1")
    body = asked(["red bus"])
    studio.answers[body["tasks"][0]["data"]["image"]] = Answer(500)
    assert client.post("/predict", json=body).get_json()["results"] == [
        {"model_version": "v1", "score": 0.0, "result": []}
    ]
    assert services.store.failures(1) == []


def test_a_hint_as_long_as_a_page_is_refused(client: FlaskClient, services: Services) -> None:
    served(services, "v1")
    answer = client.post("/predict", json=asked(["bus " * 60]))
    assert answer.status_code == 400
    assert answer.get_json()["error"].startswith("The hint has more than 200 characters")
