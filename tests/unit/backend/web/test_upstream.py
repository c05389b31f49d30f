"""CaptionerModel under label-studio-ml: the real server of 1.0.9, and 2.x by its calling convention."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from label_studio_ml import api
from label_studio_ml.model import LabelStudioMLManager, SimpleJobManager

import backend.web.upstream
from backend.domain.errors import RequestError
from backend.web.services import Services
from backend.web.upstream import CaptionerModel
from tests import factories
from tests.factories import picture, promoted
from tests.fakes import Answer, Host, host

CONFIG = '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'
RECORDINGS = Path(__file__).parents[3] / "assets" / "recordings"


def received(name: str, path: str) -> dict[str, Any]:
    recording = json.loads((RECORDINGS / f"{name}.json").read_text())
    return next(each["body"] for each in recording["ml_backend_received"] if each["path"] == path)


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        for task in received("22_retrieve_predictions", "/predict")["tasks"]:
            running.answers[task["data"]["image"]] = Answer(200, picture((task["id"], 0, 0)))
        yield running


@pytest.fixture
def services(tmp_path: Path, studio: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    made = factories.backend(tmp_path, CAPTIONER_IMAGE_HOSTS=studio.address)
    monkeypatch.setattr(backend.web.upstream, "process_services", lambda: made)
    yield made
    made.stop()


@pytest.fixture
def server(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """label-studio-ml 1.0.9 around the model; its job process is this one, everything else is its own code."""

    def run_job(self: SimpleJobManager, model_class: type, args: tuple[Any, ...]) -> None:
        self.job(model_class, *args)

    monkeypatch.setattr(SimpleJobManager, "run_job", run_job)
    monkeypatch.setattr(LabelStudioMLManager, "_current_model", {})
    return api.init_app(model_class=CaptionerModel, model_dir=str(tmp_path / "jobs")).test_client()


def setup_body(studio: Host) -> dict[str, Any]:
    return received("10_connect_ml", "/setup") | {"hostname": studio.url, "access_token": "c" * 40}


class TestUnder109:
    def test_tasks_are_drafted_with_what_setup_said(
        self, server: FlaskClient, services: Services, studio: Host
    ) -> None:
        promoted(services, "v1")
        version = server.post("/setup", json=setup_body(studio)).get_json()["model_version"]
        body = received("22_retrieve_predictions", "/predict")
        results = server.post("/predict", json=body).get_json()["results"]
        assert len(results) == len(body["tasks"])
        for item in results:
            assert item["result"][0]["value"]["text"][0].startswith("v1 on ")
            # filed by Label Studio under what /setup said, which 1.0.9 does not let a model choose
            assert item.get("model_version", version) == version
        assert set(studio.credentials()) == {"Token " + "c" * 40}

    def test_a_failed_image_is_an_empty_list(self, server: FlaskClient, services: Services, studio: Host) -> None:
        promoted(services, "v1")
        body = received("22_retrieve_predictions", "/predict")
        studio.answers[body["tasks"][0]["data"]["image"]] = Answer(404)
        server.post("/setup", json=setup_body(studio))
        results = server.post("/predict", json=body).get_json()["results"]
        assert results[0] == []
        assert all(results[1:])

    def test_without_a_champion_tasks_open_empty(self, server: FlaskClient, studio: Host) -> None:
        assert server.post("/setup", json=setup_body(studio)).get_json()["model_version"]
        body = received("15_test_predict", "/predict")
        assert server.post("/predict", json=body).get_json()["results"] == [[]]

    @pytest.mark.parametrize(
        ("name", "kept"),
        [
            ("30_accept_draft", {1: ("draft caption for task 1",)}),
            ("31_create_corrected", {2: ("a human wrote this caption, with ünïcode",)}),
            ("36_predictions_to_annotations", {4: ("draft caption for task 3",), 5: ("draft caption for task 4",)}),
            ("33_skip_task", {}),
        ],
    )
    def test_webhook_events_are_learnt_from(
        self, server: FlaskClient, services: Services, studio: Host, name: str, kept: dict[int, tuple[str, ...]]
    ) -> None:
        assert server.post("/webhook", json=received(name, "/webhook")).status_code == 201
        assert {c.annotation_id: c.texts for c in services.store.corrections(1)} == kept
        # nothing was taken for a trained model, whose version would be a number that Label Studio fails on
        assert server.post("/setup", json=setup_body(studio)).get_json()["model_version"] == "INITIAL"

    def test_start_training_queues_a_retrain(self, server: FlaskClient, services: Services) -> None:
        server.post("/webhook", json=received("31_create_corrected", "/webhook"))
        server.post("/webhook", json=received("40_start_training", "/webhook"))
        assert [retrain.state for retrain in services.store.retrains(1)] == ["queued"]

    def test_a_process_that_only_takes_in_events_loads_no_model(self, server: FlaskClient, services: Services) -> None:
        promoted(services, "v1")
        server.post("/webhook", json=received("31_create_corrected", "/webhook"))
        assert services._watcher is None
        assert services.champions._models.keys() == set()

    def test_training_on_anything_but_an_event_is_refused(self, services: Services) -> None:
        with pytest.raises(RequestError):
            CaptionerModel(label_config=CONFIG).fit([{"id": 1}], "folder")


class Harness:
    """What label-studio-ml 2.x does around a model, request by request."""

    def __init__(self, model_class: Any) -> None:
        self.model_class = model_class

    def setup(self, body: dict[str, Any]) -> Any:
        model = self.model_class(project_id=body["project"].split(".", 1)[0], label_config=body["schema"])
        return model.get("model_version")

    def predict(self, body: dict[str, Any]) -> Any:
        model = self.model_class(project_id=body["project"].split(".", 1)[0], label_config=body["label_config"])
        params = dict(body["params"])
        context = params.pop("context", {})
        return model.predict(body["tasks"], context=context, **params)

    def webhook(self, body: dict[str, Any]) -> Any:
        data = dict(body)
        event = data.pop("action")
        model = self.model_class(str(data["project"]["id"]), label_config=data["project"]["label_config"])
        return model.fit(event, data)


class Base2:
    """label-studio-ml 2.x's base class as far as a subclass notices: state lives in a cache by project and key."""

    cache: dict[tuple[str, str], Any] = {}  # noqa: RUF012 - shared on purpose, like the original's

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        if not self.model_version:
            self.set("model_version", "0.0.1")
        self.setup()

    def setup(self) -> None: ...

    def get(self, key: str) -> Any:
        return self.cache.get((self.project_id, key))

    def set(self, key: str, value: Any) -> None:
        self.cache[self.project_id, key] = value

    @property
    def label_config(self) -> Any:
        return self.get("label_config")

    @property
    def model_version(self) -> Any:
        return self.get("model_version")


@pytest.fixture(params=["the installed base class", "a base class like that of 2.x"])
def harness(request: pytest.FixtureRequest, services: Services, monkeypatch: pytest.MonkeyPatch) -> Harness:
    if "installed" in request.param:
        return Harness(CaptionerModel)
    fake = types.ModuleType("label_studio_ml.model")
    fake.LabelStudioMLBase = Base2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", fake)
    spec = importlib.util.spec_from_file_location("model_over_2x", str(backend.web.upstream.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "process_services", lambda: services)
    assert issubclass(module.CaptionerModel, Base2)
    return Harness(module.CaptionerModel)


class TestThe2xWay:
    def test_setup_and_predictions_name_the_same_version(
        self, harness: Harness, services: Services, studio: Host
    ) -> None:
        promoted(services, "p1-v3")
        services.store.save_project(1, CONFIG, studio.url, "c" * 40)
        assert harness.setup(received("10_connect_ml", "/setup")) == "p1-v3"
        body = received("22_retrieve_predictions", "/predict")
        results = harness.predict(body)
        assert len(results) == len(body["tasks"])
        assert {item["model_version"] for item in results} == {"p1-v3"}

    def test_an_untrained_project_still_names_a_version(self, harness: Harness) -> None:
        assert harness.setup(received("10_connect_ml", "/setup")) == "untrained"
        assert harness.predict(received("15_test_predict", "/predict")) == [[]]

    def test_events_are_learnt_from_and_training_names_its_job(self, harness: Harness, services: Services) -> None:
        assert harness.webhook(received("31_create_corrected", "/webhook")) == {"job": None}
        (correction,) = services.store.corrections(1)
        assert correction.annotation_id == 2
        job = harness.webhook(received("40_start_training", "/webhook"))["job"]
        assert job == f"retrain-{services.store.retrains(1)[0].snapshot}"

    def test_what_setup_said_before_is_not_forgotten(self, harness: Harness, services: Services, studio: Host) -> None:
        services.store.save_project(1, CONFIG, studio.url, "c" * 40)
        harness.predict(received("15_test_predict", "/predict"))
        project = services.store.get_project(1)
        assert project is not None
        assert (project.hostname, project.access_token) == (studio.url, "c" * 40)

    def test_no_tasks_no_results(self, harness: Harness) -> None:
        assert harness.predict(received("15_test_predict", "/predict") | {"tasks": []}) == []

    def test_other_keys_stay_with_the_base_class(self, harness: Harness) -> None:
        assert harness.model_class(project_id="1", label_config=CONFIG).get("nothing of ours") is None
