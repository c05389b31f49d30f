from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.images.cache import LocalImage
from backend.system import logs
from backend.web.app import create_app
from backend.web.services import Services
from tests import factories
from tests.factories import served
from tests.fakes import Model
from tests.unit.backend.web.test_routes import recorded


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return factories.backend(tmp_path)


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, with its ids."""
    mark = logs.Ids()
    caplog.handler.addFilter(mark)
    with caplog.at_level(logging.INFO):
        yield caplog
    caplog.handler.removeFilter(mark)


def requests_of(told: pytest.LogCaptureFixture) -> list[str | None]:
    return [record.ids.get("request") for record in told.records]  # type: ignore[attr-defined]


def test_an_answer_has_the_id_of_its_request(client: FlaskClient) -> None:
    assert client.get("/health", headers={"X-Request-ID": "from-a-proxy.7"}).headers["X-Request-ID"] == "from-a-proxy.7"
    made = [client.get("/nowhere").headers["X-Request-ID"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
    assert made[0] != made[1]
    assert logs.ids() == {}, "nothing is worked on any more"


@pytest.mark.parametrize("forged", ["", "two words", "a" * 101, "naïve", "x=y"])
def test_an_id_that_could_forge_a_line_is_replaced(client: FlaskClient, forged: str) -> None:
    answer = client.get("/health", headers={"X-Request-ID": forged.encode().decode("latin1")})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_what_is_logged_while_it_is_worked_on_has_its_id_in_every_thread(
    client: FlaskClient,
    services: Services,
    told: pytest.LogCaptureFixture,
) -> None:
    class Broken(Model):
        def caption_pixels(self, images: Any, *, retrieval: Any = None) -> Any:
            raise RuntimeError("out of order")

    def fetch(*given: Any) -> LocalImage:
        logging.getLogger("backend.images").warning("An image is fetched.")
        return LocalImage(Path("photo.jpg"), "0" * 64)

    services.images.local = fetch  # type: ignore[method-assign]
    services.champions._load = lambda checkpoint, device: Broken(checkpoint.name)
    served(services, "v1")
    told.clear()
    body = recorded("22_retrieve_predictions", "/predict")
    client.post("/predict", json=body, headers={"X-Request-ID": "ours"})
    said = {record.name for record in told.records}
    assert {"backend.images", "backend.serving.captions", "backend.serving.drafting"} <= said, "those of three threads"
    assert set(requests_of(told)) == {"ours"}


def test_an_error_of_the_request_is_logged_with_its_id(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    client = create_app(factories.backend(tmp_path)).test_client()
    client.post("/predict", data="no JSON", headers={"X-Request-ID": "ours"})
    assert requests_of(told) == ["ours"]
