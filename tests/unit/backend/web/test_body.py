"""What arrives where the body of a request should be."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from backend.web.app import create_app
from tests import factories

READ_A_BODY = ["/setup", "/predict", "/webhook", "/versions", "/cancel-training"]

MALFORMED = {
    "no number": b"ZZ\r\n{}\r\n0\r\n\r\n",
    "a negative number": b"-1\r\n{}\r\n0\r\n\r\n",
    "a prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "no size": b"\r\n{}\r\n0\r\n\r\n",
    "longer than it said": b"2\r\n{}{}\r\n0\r\n\r\n",
    "an extension without a name": b"2;=\r\n{}\r\n0\r\n\r\n",
    "a trailer without a colon": b"2\r\n{}\r\n0\r\ntrailer\r\n\r\n",
    "a size without an end": b"2" * 9000,
    "cut short": b"9\r\n{}",
    "no last chunk": b"2\r\n{}\r\n",
    "nothing": b"",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    return create_app(factories.backend(tmp_path_factory.mktemp("body"))).test_client()


def test_these_are_all_that_read_a_body(client: FlaskClient) -> None:
    rules = client.application.url_map.iter_rules()
    assert {rule.rule for rule in rules if "POST" in (rule.methods or ())} == set(READ_A_BODY)


@pytest.mark.parametrize("path", READ_A_BODY)
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_chunks_are_the_senders_fault(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, path: str, body: bytes
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    received = next(RequestParser(Config(), iter([head, body]), ("127.0.0.1", 1)))  # as the server reads it
    answer = client.post(path, environ_overrides={"wsgi.input": received.body, "wsgi.input_terminated": True})
    assert answer.status_code == 400
    assert answer.get_json()["error"].startswith("The request body cannot be read: ")
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
