"""Who is let in: passwords, tokens, scopes, guesses, and pages of other sites."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.domain.errors import SettingsError
from backend.web.access import guesses
from backend.web.access.guesses import Guesses
from backend.web.app import create_app
from tests import factories

PASSWORD = {"BASIC_AUTH_USER": "label", "BASIC_AUTH_PASS": "studio"}
RIGHT = ("label", "studio")


def line(name: str, scope: str, token: str) -> str:
    return f"{name} {scope} {hashlib.sha256(token.encode()).hexdigest()}\n"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def statuses(client: FlaskClient, passwords: list[str], address: str) -> list[int]:
    return [
        client.get("/versions", auth=("label", each), environ_base={"REMOTE_ADDR": address}).status_code
        for each in passwords
    ]


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    """Of a backend with a password and two tokens."""
    file = tmp_path / "tokens"
    file.write_text("# machines\n\n" + line("prometheus", "read", "r" * 40) + line("importer", "write", "w" * 40))
    return create_app(factories.backend(tmp_path, **PASSWORD, CAPTIONER_TOKENS_FILE=str(file))).test_client()


def test_guessing_is_bounded_by_address_and_locks_nobody_else_out(client: FlaskClient) -> None:
    guessed = statuses(client, [f"guess {number}" for number in range(15)], "203.0.113.9")
    assert guessed == [401] * guesses.MOST + [429] * 5
    assert statuses(client, ["studio"], "203.0.113.9") == [429], "the right one among guesses must not show"
    assert statuses(client, ["studio"], "203.0.113.10") == [200]
    answer = client.get("/versions", auth=RIGHT, environ_base={"REMOTE_ADDR": "203.0.113.9"})
    assert 0 < int(answer.headers["Retry-After"]) <= guesses.WINDOW_SECONDS
    assert "wait" in answer.get_json()["error"]
    assert client.get("/health", environ_base={"REMOTE_ADDR": "203.0.113.9"}).status_code == 200


def test_no_password_and_the_same_old_one_are_no_guesses(client: FlaskClient) -> None:
    assert statuses(client, ["last week's"] * 30, "203.0.113.9") == [401] * 30
    assert {client.get("/versions").status_code for _ in range(30)} == {401}
    assert statuses(client, ["studio"], "203.0.113.9") == [200]
    assert client.get("/versions", auth=RIGHT).status_code == 200


def test_tokens_are_guesses_too(client: FlaskClient) -> None:
    assert [client.get("/versions", headers=bearer(f"{n}")).status_code for n in range(11)] == [401] * 10 + [429]


def test_guesses_are_forgotten_after_a_while_and_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    time = [0.0]
    known = Guesses(lambda: time[0])
    for number in range(guesses.MOST):
        assert known.wait_seconds("2001:db8::1") == 0
        known.wrong("2001:db8::1", f"guess {number}")
        time[0] += 1
    assert known.wait_seconds("2001:db8::ffff") == guesses.WINDOW_SECONDS - 10, "one network of 64 bits is one caller"
    assert known.wait_seconds("2001:db8:0:1::1") == 0
    time[0] = guesses.WINDOW_SECONDS
    assert known.wait_seconds("2001:db8::1") == 0
    monkeypatch.setattr(guesses, "MOST_ADDRESSES", 3)
    for number in range(9):
        known.wrong(f"10.0.0.{number}", "x")
    assert len(known._wrong) == 3


def test_a_token_may_do_what_its_scope_says(client: FlaskClient) -> None:
    cancel = {"project": 1}
    assert client.get("/versions", headers=bearer("r" * 40)).status_code == 200
    refused = client.post("/cancel-training", json=cancel, headers=bearer("r" * 40))
    assert (refused.status_code, "scope `write`" in refused.get_json()["error"]) == (403, True)
    assert client.post("/cancel-training", json=cancel, headers=bearer("w" * 40)).status_code == 200
    assert client.post("/cancel-training", json=cancel, auth=RIGHT).status_code == 200
    for wrong in (bearer("x"), bearer(""), {"Authorization": "Bearer"}, {"Authorization": "Token " + "w" * 40}):
        assert client.get("/versions", headers=wrong).status_code == 401
    described = client.get("/openapi.json", headers=bearer("r" * 40)).get_json()
    assert set(described["components"]["securitySchemes"]) == {"basic", "bearer"}


def test_a_token_comes_and_goes_with_its_line(client: FlaskClient, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(line("other", "read", "o" * 40))
    assert client.get("/versions", headers=bearer("o" * 40)).status_code == 200
    assert client.get("/versions", headers=bearer("w" * 40)).status_code == 401
    file.write_text("oh\n")
    os.utime(file, (1, 1))
    assert client.get("/versions", headers=bearer("o" * 40)).status_code == 401, "what cannot be read lets nobody in"
    file.unlink()
    assert client.get("/versions", headers=bearer("o" * 40)).status_code == 401
    assert client.get("/versions", auth=RIGHT).status_code == 200


def test_tokens_count_again_once_their_file_can_be_read_again(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another mode or owner changes neither its time nor its size."""

    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "tokens").write_text(line("other", "read", "o" * 40))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refused)
        assert client.get("/versions", headers=bearer("o" * 40)).status_code == 401
    assert client.get("/versions", headers=bearer("o" * 40)).status_code == 200


@pytest.mark.parametrize(
    "text",
    [line("unset", "write", ""), "prometheus read secret-token\n", "prometheus admin " + "0" * 64, "a" * 64, b"\xff"],
)
def test_a_file_of_tokens_that_is_none_is_told_at_the_start(tmp_path: Path, text: str | bytes) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError, match="CAPTIONER_TOKENS_FILE") as caught:
        factories.settings(tmp_path, CAPTIONER_TOKENS_FILE=str(file)).check_access()
    assert "secret-token" not in str(caught.value)


def test_tokens_alone_ask_everybody_for_one(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(line("importer", "write", "w"))
    services = factories.backend(tmp_path, CAPTIONER_TOKENS_FILE=str(tmp_path / "tokens"))
    client = create_app(services).test_client()
    answer = client.get("/versions")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="captioner"')
    assert client.get("/versions", auth=RIGHT).status_code == 401
    assert client.get("/versions", headers=bearer("w")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "https://captioner.example", "Sec-Fetch-Site": "same-origin"}, 200),  # behind a proxy
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_page_of_another_site_changes_nothing(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """A browser adds the password that it has for this address to forms and scripts of any page."""
    client = create_app(factories.backend(tmp_path)).test_client()
    assert client.post("/cancel-training", json={"project": 1}, headers=headers).status_code == status
    assert client.get("/versions", headers=headers).status_code == 200


def test_every_answer_says_that_its_type_is_not_to_be_guessed(client: FlaskClient) -> None:
    for path in ("/health", "/versions", "/metrics", "/nowhere", "/", "/openapi.json"):
        for given in (RIGHT, None):
            assert client.get(path, auth=given).headers["X-Content-Type-Options"] == "nosniff"


def test_a_refused_request_is_read_so_that_its_answer_arrives(client: FlaskClient) -> None:
    for size, read in ((200_000, 200_000), (5_000_000, 2**20)):
        body = io.BytesIO(b"x" * size)
        given = {"wsgi.input": body, "CONTENT_LENGTH": str(size)}
        assert client.post("/webhook", environ_overrides=given).status_code == 401
        assert read <= body.tell() <= read + 2**20
