"""Cancelling by command and over HTTP, also where Redis is away."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from backend.cli.main import main
from backend.store.retrains import CANCELLED, QUEUED
from backend.web.app import create_app
from backend.web.services import Services
from tests import factories
from tests.factories import correction, saved

AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = factories.backend(tmp_path)
    services.store.record(saved(correction(1)))
    services.store.request_retrain(1, asked=True, every=50)
    return services


def test_the_command_cancels_and_says_so(services: Services, tmp_path: Path) -> None:
    given = ["train-cancel", "--project", "1", "--data-dir", str(tmp_path), "--redis-url", AWAY]
    done = CliRunner().invoke(main, given)
    assert (done.exit_code, done.stdout.startswith("Retrain 1-1 of project 1 is cancelled: ")) == (0, True)
    assert services.store.retrains(1)[0].state == CANCELLED
    again = CliRunner().invoke(main, given)
    assert again.stdout.startswith("Project 1 has no retrain to cancel: ")


def test_it_is_cancelled_and_told_over_http(services: Services) -> None:
    client = create_app(services).test_client()
    [project] = client.get("/train-status?project=1").get_json()["projects"]
    assert (project["active"]["retrain"], project["active"]["state"]) == ("1-1", QUEUED)
    answer = client.post("/cancel-training", json={"project": "1.1767225600"})
    assert (answer.status_code, answer.get_json()["cancelled"]) == (200, "retrain-1-1")
    [project] = client.get("/train-status").get_json()["projects"]
    assert (project["active"], project["last"]["state"]) == (None, CANCELLED)
    assert client.post("/cancel-training", json={"project": 1}).get_json()["cancelled"] is None
    assert services.store.request_retrain(1, asked=False, every=1) is None, "it does not begin again by itself"


@pytest.mark.parametrize("body", [{}, {"project": "all"}, {"project": 0}])
def test_a_project_has_to_be_named(services: Services, body: dict[str, object]) -> None:
    answer = create_app(services).test_client().post("/cancel-training", json=body)
    assert (answer.status_code, "names no project" in answer.get_json()["error"]) == (400, True)
    assert services.store.retrains(1)[0].state == QUEUED
