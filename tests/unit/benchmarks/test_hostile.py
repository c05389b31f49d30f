"""A bounded part of `benchmarks.hostile`: hostile requests to the application, mutated images to what decodes them."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("schemathesis")

from backend.web.app import create_app
from benchmarks.hostile import Sender
from benchmarks.hostile_images import decode, mutated, whole
from benchmarks.hostile_requests import Sent, all_kinds, drafted, each
from tests import factories
from tests.fakes import Answer, host


@pytest.mark.slow
def test_whatever_is_asked_is_answered_without_a_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    services = factories.backend(tmp_path)
    factories.served(services, "v1")
    client = create_app(services).test_client()
    statuses: Counter[int] = Counter()
    failed: list[Sent] = []

    def send(sent: Sent) -> None:
        if sent.raw:
            return  # what breaks HTTP does not get as far as the application
        answer = client.open(sent.path, method=sent.method, headers=list(sent.headers), data=sent.body)
        statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            failed.append(sent)

    document = client.get("/openapi.json").get_json()
    with caplog.at_level(logging.ERROR):
        each(all_kinds(document), 90, 7, send)
        each(drafted(), 10, 7, send)
    assert failed == []
    assert [record.message for record in caplog.records if record.exc_info] == []
    assert statuses[200] >= 10, statuses
    assert statuses[400] >= 10, statuses
    assert client.get("/health").status_code == 200
    services.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_damaged_images_are_read_or_refused_in_a_sentence() -> None:
    decoded = decode(96, 7)
    assert decoded.faults == []
    assert (decoded.files, decoded.read + decoded.refused) == (96, 96)
    assert decoded.by_format.keys() == {"jpeg", "mpo", "png", "gif", "webp", "bmp", "tiff"}
    assert min(decoded.read, decoded.refused) >= 10


def test_mutations_are_drawn_from_the_seed_and_change_the_files() -> None:
    forms = whole()
    drawn = list(mutated(60, 3))
    assert drawn == list(mutated(60, 3)) != list(mutated(60, 4))
    assert sum(content != forms[name] for name, content in drawn) >= 55


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "answered"), (401, "refused"), (503, "busy"), (500, "failed"), (502, "failed")]
)
def test_what_a_server_answers_is_counted_by_what_it_means(status: int, outcome: str) -> None:
    with host() as server:
        server.answers["/x"] = Answer(status)
        sender = Sender(server.url)
        sender.send(Sent("POST", "/x", (("A", "b"),), b"{}"))
        assert sender.counts == {"requests": 1, outcome: 1}
        assert bool(sender.faults) == (outcome == "failed")
        assert [given is not None for given in server.credentials()] == [True]


def test_a_connection_that_is_closed_without_an_answer_is_a_fault_unless_http_was_broken() -> None:
    with host() as server:
        server.answers["/x"] = lambda handler: None
        sender = Sender(server.url)
        sender.send(Sent("GET", "/x"))
        sender.send(Sent("GET", "/x", (), b"Content-Length: -1\r\n\r\n", raw=True))
    assert (sender.counts["dropped"], sender.counts["refused"]) == (1, 1)
