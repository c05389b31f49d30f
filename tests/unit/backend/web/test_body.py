"""What arrives where the body of a request should be."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from backend.store.database import _serialise
from backend.web.app import create_app
from backend.web.body import QUICK_BYTES, _Yielding
from backend.web.pages.answers import PROJECT
from tests import factories

READ_A_BODY = ["/setup", "/predict", "/webhook", "/versions", "/cancel-training"]
READ_A_FORM = [f"{PROJECT}/promote/<path:name>", f"{PROJECT}/rollback"]

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
    assert {rule.rule for rule in rules if "POST" in (rule.methods or ())} == {*READ_A_BODY, *READ_A_FORM}


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


TOO_MUCH = {
    "lists": b"[],",
    "objects": b"{},",
    "numbers": b"1,",
    "texts": b'"ab",',
    "not a number": b"NaN,[],",
}


@pytest.mark.parametrize("value", TOO_MUCH.values(), ids=TOO_MUCH)
def test_millions_of_values_are_refused_before_they_are_decoded(client: FlaskClient, value: bytes) -> None:
    body = b'{"action": "X", "project": 5, "a": [' + value * 5_000_000 + b"1]}"
    begun = time.process_time()
    answer = client.post("/webhook", data=body)
    assert time.process_time() - begun < 1  # decoding takes several seconds
    assert answer.status_code == 400
    assert answer.get_json()["error"].endswith(": send fewer tasks.")


def test_a_text_of_escapes_is_refused_too(client: FlaskClient) -> None:
    answer = client.post("/webhook", data=b'{"a": "' + b"\\n" * 5_000_000 + b'"}')
    assert answer.get_json()["error"].endswith(": send fewer tasks.")


BULK = {"tasks": [{"id": n, "data": {"image": f"{n}.jpg", "tags": ["a", "b"]}, "text": "é" * 900} for n in range(999)]}


@pytest.mark.parametrize(
    ("work", "given"), [(_Yielding().decode, json.dumps(BULK)), (_serialise, BULK)], ids=["decoded", "stored"]
)
def test_other_threads_get_turns_while_a_large_body_is(work: Callable[[Any], Any], given: Any) -> None:
    """Python may pass the turn on at each call of a function written in Python; the modules in C make none."""
    calls: list[str] = []
    sys.setprofile(lambda frame, event, argument: calls.append(event) if event == "call" else None)
    try:
        work(given)
    finally:
        sys.setprofile(None)
    assert len(calls) > 999


@pytest.mark.parametrize("size", [0, QUICK_BYTES])
def test_a_large_body_means_what_a_small_one_does(client: FlaskClient, size: int) -> None:
    for body in [
        b'{"action": "X", "project": 5, "a": [NaN, -Infinity, 1e400, "\\ud800", "\\u0000", {"b": null}]}',
        b'\xef\xbb\xbf{"action": "X", "project": 5}',
        json.dumps({"action": "X", "project": 5, "a": "é"}).encode("utf-16"),
    ]:
        blank = " ".encode("utf-16-le" if body.startswith(b"\xff\xfe") else "utf-8")
        answer = client.post("/webhook", data=body + blank * size)
        assert answer.get_json() == {"status": "ok"}, body
    for body in [b"", b"{", b"[]", b'{"a": }', b"\xff", b'{"a": 1} {}', b'{"a": ' + b"9" * 5000 + b"}"]:
        answer = client.post("/webhook", data=body + b" " * size)
        assert answer.get_json() == {"error": "The request body is not a JSON object."}, body
