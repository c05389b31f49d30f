"""What every page keeps to: who gets one, what it may load, how errors look."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.web.app import create_app
from backend.web.services import Services
from tests import factories
from tests.factories import correction, promoted, saved
from tests.pages import parsed, texts_of

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PASSWORD = {"BASIC_AUTH_USER": "label", "BASIC_AUTH_PASS": "studio:x"}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = factories.backend(tmp_path)
    services.store.record(saved(correction(1)))
    promoted(services, "p1-v1")
    return services


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html;q=0.5"])
def test_the_front_says_up_to_all_but_browsers(client: FlaskClient, accept: str | None) -> None:
    answer = client.get("/", headers={"Accept": accept} if accept else {})
    assert answer.get_json() == {"status": "UP", "model_class": "CaptionerModel"}
    assert answer.headers["Vary"] == "Accept"


def test_the_front_is_an_overview_of_all_projects_for_browsers(client: FlaskClient, services: Services) -> None:
    services.store.record(saved(correction(2, project_id=2)))
    page = client.get("/", headers=BROWSER).get_data(as_text=True)
    assert {"/projects/1", "/projects/2"} <= set(parsed(page).addresses)
    assert "p1-v1" in page


def test_without_a_project_the_overview_says_how_to_connect_one(tmp_path: Path) -> None:
    page = create_app(factories.backend(tmp_path)).test_client().get("/", headers=BROWSER).get_data(as_text=True)
    assert "No project is connected yet" in " ".join(texts_of(page))


@pytest.mark.parametrize("path", ["/", "/projects/1"])
def test_a_page_loads_nothing_from_elsewhere_and_has_no_script_or_style_of_its_own(
    client: FlaskClient, path: str
) -> None:
    answer = client.get(path, headers=BROWSER)
    assert answer.mimetype == "text/html"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    page = answer.get_data(as_text=True)
    assert all(address.startswith(("/", "#")) for address in parsed(page).addresses)
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page)


def test_browsers_keep_the_style_until_it_changes(client: FlaskClient) -> None:
    page = client.get("/", headers=BROWSER).get_data(as_text=True)
    [style] = [address for address in parsed(page).addresses if "page.css" in address]
    answer = client.get(style)
    assert (answer.status_code, answer.mimetype) == (200, "text/css")
    assert "max-age=31536000, immutable" in answer.headers["Cache-Control"]
    style = answer.get_data(as_text=True)
    assert ".chart .mark {" in style
    assert ".facts > div {" in style
    assert client.get("/pages/page.css?v=another").headers["Cache-Control"] == "no-cache"
    assert client.get("/pages/..%2fviews.py").status_code == 404


def test_errors_are_pages_with_the_sentence_where_a_browser_asks(client: FlaskClient) -> None:
    for path, sentence in [("/projects/7", "There is no project 7 here."), ("/nowhere", "Not Found")]:
        answer = client.get(path, headers=BROWSER)
        assert (answer.status_code, answer.mimetype) == (404, "text/html")
        assert sentence in answer.get_data(as_text=True)
        assert client.get(path).get_json()["error"]
    assert client.get("/train-status?project=x", headers=BROWSER).get_json()["error"], "of an API it stays JSON"


def test_pages_ask_for_the_password(tmp_path: Path) -> None:
    client = create_app(factories.backend(tmp_path, **PASSWORD)).test_client()
    for path in ("/", "/projects/1", "/pages/page.css"):
        answer = client.get(path, headers=BROWSER)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert client.get("/", headers=BROWSER, auth=("label", "studio:x")).status_code == 200
