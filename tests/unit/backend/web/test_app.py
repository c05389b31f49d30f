from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from backend.domain.errors import CaptionerError, ModelUnavailableError, RequestError
from backend.store.registry import DEFAULT
from backend.web.app import STATUS, create_app
from backend.web.services import Services
from tests import factories
from tests.factories import promoted, served
from tests.fakes import Model

CONFIG = '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'
PASSWORD = {"BASIC_AUTH_USER": "label", "BASIC_AUTH_PASS": "studio:x"}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return factories.backend(tmp_path)


def test_without_a_password_set_none_is_asked_for(services: Services) -> None:
    assert create_app(services).test_client().get("/versions").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/setup",
        "/predict",
        "/webhook",
        "/versions",
        "/serving",
        "/train-status",
        "/cancel-training",
        "/metrics",
        "/nowhere",
    ],
)
def test_everything_but_health_asks_for_the_password(tmp_path: Path, path: str) -> None:
    client = create_app(factories.backend(tmp_path, **PASSWORD)).test_client()
    for auth in [None, ("label", "wrong"), ("wrong", "studio:x"), ("", ""), ("lübel", "stüdio:x")]:
        answer = client.get(path, auth=auth)
        assert answer.status_code == 401
        assert "BASIC_AUTH_USER" in answer.get_json()["error"]
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert client.get(path, headers={"Authorization": "Bearer x"}).status_code == 401
    assert client.get(path, headers={"Authorization": "Basic !"}).status_code == 401
    assert client.get(path, auth=("label", "studio:x")).status_code in {200, 404, 405}
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 200


def test_unknown_paths_and_methods_are_json_too(services: Services) -> None:
    client = create_app(services).test_client()
    for answer, status in [(client.get("/nowhere"), 404), (client.get("/predict"), 405)]:
        assert answer.status_code == status
        assert answer.get_json()["error"]


@pytest.mark.parametrize("number", [2**63, 10**22, 10**4200])
def test_a_project_that_no_database_can_hold_is_not_there(services: Services, number: int) -> None:
    client = create_app(services).test_client()
    for path in (f"/projects/{number}", f"/projects/{number}/now"):
        assert client.get(path, headers={"Accept": "text/html"}).status_code == 404
    assert client.get(f"/projects/{2**63 - 1}").status_code == 404


def test_each_error_has_its_status_and_the_rest_no_details(services: Services) -> None:
    app = create_app(services)

    @app.get("/raise/<int:number>")
    def fail(number: int) -> str:
        raise STATUS[number][0](f"Sentence {number}.")

    @app.get("/surprise")
    def surprise() -> str:
        raise KeyError("a secret of ours")

    client = app.test_client()
    for number, (_, status) in enumerate(STATUS):
        answer = client.get(f"/raise/{number}")
        assert (answer.status_code, answer.get_json()) == (status, {"error": f"Sentence {number}."})
    answer = client.get("/surprise")
    assert answer.status_code == 500
    assert "secret" not in answer.get_data(as_text=True)


def test_the_table_of_errors_reaches_the_particular_before_the_general() -> None:
    kinds = [kind for kind, _ in STATUS]
    assert kinds[-1] is CaptionerError
    assert dict(STATUS)[RequestError] == 400


def test_a_start_lets_the_champions_serve_and_follows_promotions(services: Services) -> None:
    client = create_app(services).test_client()
    promoted(services, "v1")
    services.start()
    services.start()
    try:
        setup = {"project": "1.1", "schema": CONFIG}
        assert client.post("/setup", json=setup).json == {"model_version": "v1"}
        swapped = threading.Event()
        serve = services.champions.serve

        def watched(*given: Any) -> None:
            serve(*given)
            swapped.set()

        services.champions.serve = watched  # type: ignore[method-assign]
        promoted(services, "v2")
        assert swapped.wait(20)
        assert client.post("/setup", json=setup).json == {"model_version": "v2"}
    finally:
        services.stop()


def test_setup_waits_for_a_champion_that_is_still_being_loaded(services: Services) -> None:
    """Otherwise a task opened right after a start would open empty."""
    loading, loaded = threading.Event(), threading.Event()

    def slowly(checkpoint: Path, device: str) -> Model:
        loading.set()
        assert loaded.wait(20)
        return Model(checkpoint.name)

    services.champions._load = slowly
    promoted(services, "v1")
    services.start()
    try:
        assert loading.wait(20)
        client = create_app(services).test_client()
        assert client.get("/health").status_code == 200  # waits for nothing
        not_yet = client.get("/ready")
        assert (not_yet.status_code, not_yet.json) == (503, {"error": "The champions are being loaded."})
        assert not services.await_champions(0.01)
        threading.Timer(0.05, loaded.set).start()
        setup = client.post("/setup", json={"project": "1.1", "schema": CONFIG})
        assert setup.json == {"model_version": "v1"}
        ready = client.get("/ready")
        assert (ready.status_code, ready.json) == (200, {"status": "READY", "model_class": "CaptionerModel"})
    finally:
        loaded.set()
        services.stop()


def test_a_champion_that_cannot_be_loaded_is_not_ready_until_it_is_or_an_older_one_serves(services: Services) -> None:
    def load(checkpoint: Path, device: str) -> Model:
        if checkpoint.name == "damaged":
            raise RuntimeError(f"{checkpoint} is damaged")
        return Model(checkpoint.name)

    services.champions._load = load
    client = create_app(services).test_client()
    for project_id, whose in ((DEFAULT, "of projects without one of their own"), (3, "of project 3")):
        with pytest.raises(ModelUnavailableError):
            services.champions.serve(project_id, "damaged", Path("damaged"))
        sentence = f"The champion {whose} cannot be loaded; `captioner status` and the log say why."
        assert (client.get("/ready").status_code, client.get("/ready").json) == (503, {"error": sentence})
        services.champions.serve(project_id, "v1", Path("v1"))
        with pytest.raises(ModelUnavailableError):
            services.champions.serve(project_id, "damaged", Path("damaged"))
        assert client.get("/ready").status_code == 200, "the one before it serves"


def test_setup_names_the_version_that_is_still_being_loaded(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label Studio remembers the version of /setup: with "untrained" it would ask for every draft again."""
    monkeypatch.setattr("backend.web.routes.SETUP_WAIT_SECONDS", 0.0)
    loading, loaded = threading.Event(), threading.Event()

    def slowly(checkpoint: Path, device: str) -> Model:
        if checkpoint.name == "damaged":
            raise RuntimeError("damaged")
        if checkpoint.name == "slow":
            loading.set()
            assert loaded.wait(20)
        return Model(checkpoint.name)

    services.champions._load = slowly
    promoted(services, "quick", project_id=0)
    promoted(services, "damaged", project_id=1)
    promoted(services, "slow", project_id=2)
    client = create_app(services).test_client()

    def named(project_id: int) -> str:
        answer = client.post("/setup", json={"project": f"{project_id}.1", "schema": CONFIG})
        return str(answer.get_json()["model_version"])

    services.start()
    try:
        assert loading.wait(20)
        during = [named(1), named(2), named(3)]
        loaded.set()
        assert services.await_champions(20)
        assert during == [named(1), named(2), named(3)] == ["quick", "slow", "quick"]
    finally:
        loaded.set()
        services.stop()


def test_a_champion_that_cannot_be_loaded_keeps_nobody_waiting(services: Services) -> None:
    def damaged(checkpoint: Path, device: str) -> Model:
        raise RuntimeError("damaged")

    services.champions._load = damaged
    promoted(services, "v1")
    services.start()
    try:
        assert services.await_champions(20)
        assert create_app(services).test_client().get("/serving").get_json()["refused"].keys() == {"1"}
    finally:
        services.stop()


def test_rooms_that_were_not_started_wait_for_nothing(services: Services) -> None:
    assert services.await_champions(0.0)
    served(services, "v1")
    assert services.champions.serving(1) == "v1"
