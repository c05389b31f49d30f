"""The description of the HTTP API: valid, complete, and true of what is sent and answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from backend.web.app import STATUS, create_app
from backend.web.openapi.description import API, ERRORS, OPERATIONS
from backend.web.pages.answers import NAME
from backend.web.services import Services
from labeling_config import shipped
from tests import factories
from tests.factories import correction, picture, promoted, saved, served
from tests.fakes import Answer, Host, host

ROOT = Path(__file__).parents[4]
RECORDED = [
    received
    for path in sorted((ROOT / "tests" / "assets" / "recordings").glob("*.json"))
    for received in json.loads(path.read_text()).get("ml_backend_received", [])
]
PASSWORD = {"BASIC_AUTH_USER": "label", "BASIC_AUTH_PASS": "studio"}


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        for received in RECORDED:
            for task in received["body"]["tasks"] if received["path"] == "/predict" else []:
                running.answers[task["data"]["image"]] = Answer(200, picture((task["id"], 0, 0)))
        yield running


@pytest.fixture
def services(tmp_path: Path, studio: Host) -> Services:
    return factories.backend(tmp_path, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY="a" * 40)


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    return client.get("/openapi.json").get_json()


class Api:
    """Sends requests, and holds them and their answers against the description."""

    def __init__(self, client: FlaskClient, document: dict[str, Any]) -> None:
        self._client, self._document = client, document

    def send(self, method: str, path: str, *, fits: bool = True, **options: Any) -> TestResponse:
        """The answer. `fits` is whether the body is expected to be one that the description allows."""
        operation = self._document["paths"][path.split("?")[0]][method.lower()]
        if "requestBody" in operation:
            assert self._is_valid(options["json"], operation["requestBody"]) == fits, options["json"]
        answer = self._client.open(path, method=method, **options)
        response = operation["responses"][str(answer.status_code)]
        assert list(response["content"]) == [answer.mimetype]
        if answer.is_json:
            assert self._is_valid(answer.get_json(), response), answer.text
        return answer

    def _is_valid(self, value: Any, described: dict[str, Any]) -> bool:
        schema = described["content"]["application/json"]["schema"] | {"components": self._document["components"]}
        return Draft202012Validator(schema).is_valid(value)


@pytest.fixture
def api(client: FlaskClient, document: dict[str, Any]) -> Api:
    return Api(client, document)


def test_the_description_is_valid_with_and_without_a_password(tmp_path: Path, document: dict[str, Any]) -> None:
    validate(document)
    client = create_app(factories.backend(tmp_path / "other", **PASSWORD)).test_client()
    secured = client.get("/openapi.json", auth=("label", "studio")).get_json()
    validate(secured)
    assert secured != document
    assert client.get("/openapi.json").status_code == 401
    asks = {path for path, each in secured["paths"].items() if all("security" in one for one in each.values())}
    assert secured["paths"].keys() - asks == {"/health", "/ready"}
    assert set(secured["components"]["securitySchemes"]) == {"basic"}


def test_every_route_but_those_of_pages_is_described(client: FlaskClient, document: dict[str, Any]) -> None:
    rules = list(client.application.url_map.iter_rules())
    described = {(path, method.upper()) for path, each in document["paths"].items() for method in each}
    routes = {
        (rule.rule, method)
        for rule in rules
        if rule.endpoint.startswith(API)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == routes
    assert {rule.endpoint.removeprefix(API) for rule in rules if rule.endpoint.startswith(API)} == set(OPERATIONS)
    assert {rule.endpoint.partition(".")[0] for rule in rules} <= {"captioner", NAME}


def test_no_error_is_described_that_is_never_given() -> None:
    assert set(ERRORS) <= {status for _, status in STATUS} | {401, 403, 413, 429}


def test_what_label_studio_sends_and_gets_is_as_described(api: Api, services: Services) -> None:
    served(services, "v1")
    for received in RECORDED:
        assert api.send(received["method"], received["path"], json=received["body"]).status_code == 200


def test_what_programs_ask_for_is_as_described(api: Api, services: Services) -> None:
    for path in ("/health", "/ready", "/serving", "/versions", "/train-status", "/metrics", "/openapi.json"):
        assert api.send("GET", path).status_code == 200
    assert api.send("POST", "/cancel-training", json={"project": 1}).get_json()["cancelled"] is None
    promoted(services, "p1-v1")
    served(services, "p1-v1")
    services.champions._refused[2] = "It is damaged."
    services.store.record(saved(*(correction(number) for number in range(1, 4))))
    requested = services.store.request_retrain(1, asked=True, every=50)
    assert requested
    assert api.send("GET", "/train-status?project=1").get_json()["projects"][0]["active"]["state"] == "queued"
    claimed = services.store.claim_retrain(requested.id)
    assert claimed
    progress = {"phase": "train", "epoch": 1, "epochs": 2, "step": 3, "steps": 4, "loss": 1.5, "phase_seconds": 2.0}
    services.store.renew_retrain(claimed, progress)
    assert api.send("GET", "/train-status").get_json()["projects"][0]["active"]["phase_left_seconds"] >= 0
    assert api.send("POST", "/cancel-training", json={"project": "1.17"}).get_json()["cancelled"]
    assert api.send("GET", "/train-status").get_json()["projects"][0]["last"]["state"] == "cancelled"
    assert api.send("GET", "/serving").get_json()["refused"]
    assert api.send("POST", "/versions", json={"project": {"id": 1}}).get_json()["versions"] == ["p1-v1"]


def test_a_hint_is_as_described(api: Api, services: Services) -> None:
    served(services, "v1")
    body = next(each["body"] for each in RECORDED if each["path"] == "/predict")
    typed = {"from_name": "hint", "to_name": "image", "type": "textarea", "value": {"text": ["red bus"]}}
    body = body | {"label_config": shipped("guided"), "params": {"context": {"result": [typed]}}}
    assert api.send("POST", "/predict", json=body).get_json()["results"][0]["result"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/setup", {}),
        ("/setup", {"project": "x", "schema": "<View/>"}),
        ("/setup", {"project": 0, "schema": "<View/>"}),
        ("/predict", {"project": "1.1"}),
        ("/predict", {"project": "1.1", "label_config": "<View/>", "tasks": {}}),
        ("/webhook", {}),
        ("/versions", {"project": "x"}),
        ("/cancel-training", {}),
    ],
    ids=str,
)
def test_what_does_not_fit_the_description_is_400(api: Api, path: str, body: dict[str, Any]) -> None:
    assert api.send("POST", path, json=body, fits=False).status_code == 400


def test_other_errors_are_as_described(
    api: Api, client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api.send("GET", "/train-status?project=x").status_code == 400
    monkeypatch.setattr(type(services), "unready", lambda self: "The champions are being loaded.")
    assert api.send("GET", "/ready").status_code == 503
    client.application.config["MAX_CONTENT_LENGTH"] = 10
    assert api.send("POST", "/webhook", json={"action": "PROJECT_UPDATED", "project": 1}).status_code == 413


def test_the_page_lists_every_call(document: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "http-api.md").read_text()
    listed = re.findall(r"^\| `(\w+ /\S*)` \| (.*) \|$", page, re.M)
    described = [
        (f"{method.upper()} {path}", operation["summary"])
        for path, each in document["paths"].items()
        for method, operation in each.items()
    ]
    assert sorted(listed) == sorted(described)
