"""Which connections serve further requests, seen by the host: by the ports that its requests came from."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from backend.domain.errors import ImageError, UnreachableImageError
from backend.images import connections
from backend.images.addresses import AddressGuard, Origin
from backend.images.download import Downloader
from tests.fakes import Answer, Host, host

ASSETS = Path(__file__).parents[3] / "assets"


@pytest.fixture
def studio() -> Iterator[Host]:
    with host(keep_alive=True) as running:
        running.answers["/a"] = Answer(200, b"bytes")
        yield running


@pytest.fixture
def downloader(studio: Host) -> Downloader:
    return Downloader(AddressGuard(hosts=["127.0.0.1"]), max_bytes=1000)


def fetch(downloader: Downloader, url: str) -> bytes | None:
    try:
        return downloader.get(url)
    except ImageError:
        return None


def test_one_connection_serves_requests_one_after_another(studio: Host, downloader: Downloader) -> None:
    studio.answers |= {"/presign": Answer(303, headers={"Location": "/a"}), "/empty": Answer(200)}
    paths = ["/a", "/presign", "/empty", "/a"]
    assert [downloader.get(studio.url + path) for path in paths] == [b"bytes", b"bytes", b"", b"bytes"]
    assert len(studio.clients) == 5
    assert len(set(studio.clients)) == 1


def test_over_https_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ASSETS / "loopback-ca.pem"))
    with host(ASSETS / "loopback.pem", keep_alive=True) as secure:
        secure.answers["/a"] = Answer(200, b"bytes")
        downloader = Downloader(AddressGuard(hosts=["127.0.0.1"]))
        assert [downloader.get(f"{secure.url}/a") for _ in range(3)] == [b"bytes"] * 3
        assert len(set(secure.clients)) == 1


def half(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
    handler.close_connection = True


@pytest.mark.parametrize(
    "first",
    [
        Answer(404, b"an unread body"),
        Answer(302, b"an unread body", {"Location": "/a"}),
        Answer(200, b"x" * 1001),
        Answer(200, b"x", {"Content-Encoding": "br"}),
        Answer(200, b"x", {"Connection": "close"}),
        half,
    ],
)
def test_no_connection_serves_after_an_error_or_an_unread_body(
    studio: Host, downloader: Downloader, first: Answer
) -> None:
    studio.answers["/first"] = first
    fetch(downloader, f"{studio.url}/first")
    assert downloader.get(f"{studio.url}/a") == b"bytes"
    assert studio.clients[0] not in studio.clients[1:]


def test_what_a_host_sends_unasked_is_nobodys_answer(studio: Host, downloader: Downloader) -> None:
    def twice(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
        assert done.wait(10)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        sent.set()

    done, sent = threading.Event(), threading.Event()
    studio.answers["/twice"] = twice
    assert downloader.get(f"{studio.url}/twice") == b"first"
    done.set()
    assert sent.wait(10)
    assert downloader.get(f"{studio.url}/a") == b"bytes"
    assert len(set(studio.clients)) == 2


def test_a_connection_that_the_host_closes_unanswered_is_replaced(studio: Host, downloader: Downloader) -> None:
    def closing(handler: BaseHTTPRequestHandler) -> Answer | None:
        handler.close_connection = len(studio.clients) == 2
        return None if handler.close_connection else Answer(200, b"bytes")

    studio.answers["/a"] = closing
    assert [downloader.get(f"{studio.url}/a") for _ in range(2)] == [b"bytes"] * 2
    assert len(studio.clients) == 3
    assert studio.clients[0] == studio.clients[1] != studio.clients[2]


def test_nothing_is_asked_again_once_an_answer_began(studio: Host, downloader: Downloader) -> None:
    def one_byte(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"H")
        handler.close_connection = True

    studio.answers["/b"] = one_byte
    assert downloader.get(f"{studio.url}/a")
    with pytest.raises(UnreachableImageError, match="could not be fetched"):
        downloader.get(f"{studio.url}/b")
    assert studio.paths() == ["/a", "/b"]


def test_a_new_connection_that_is_not_answered_is_not_tried_again(studio: Host, downloader: Downloader) -> None:
    def closing(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    studio.answers["/b"] = closing
    with pytest.raises(UnreachableImageError, match="without response"):
        downloader.get(f"{studio.url}/b")
    assert studio.paths() == ["/b"]


def test_each_origin_has_its_own_and_each_new_one_is_checked(studio: Host) -> None:
    addresses = ["127.0.0.1"]
    guard = AddressGuard(hosts=["photos.example"], resolve=lambda name, port: addresses)
    downloader = Downloader(guard)
    url = f"http://photos.example:{studio.port}/a"
    assert downloader.get(url) == b"bytes"
    with pytest.raises(ImageError, match="CAPTIONER_IMAGE_HOSTS"):
        downloader.get(f"http://other.example:{studio.port}/a")
    addresses[:] = ["127.0.0.9"]  # the name leads elsewhere now, where nothing answers
    assert downloader.get(url) == b"bytes"
    studio.answers["/gone"] = Answer(404, b"an unread body")
    for path, reason in [("gone", "answered 404"), ("a", "cannot be reached")]:
        with pytest.raises(ImageError, match=reason):
            downloader.get(f"http://photos.example:{studio.port}/{path}")
    assert len(set(studio.clients)) == 1


def test_credentials_go_with_the_request_that_they_are_of(studio: Host, downloader: Downloader) -> None:
    downloader.get(f"{studio.url}/a", authorization="Token t", owner=Origin.of(studio.url))
    downloader.get(f"{studio.url}/a")
    assert len(set(studio.clients)) == 1
    assert studio.credentials() == ["Token t", None]


def test_a_host_is_asked_so_many_at_once_and_the_others_wait(studio: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "AT_ONCE", 2)
    both, go_on = threading.Barrier(3), threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> Answer:
        both.wait(10)
        assert go_on.wait(10)
        return Answer(200, b"slow")

    studio.answers["/slow"] = slow
    guard = AddressGuard(hosts=["127.0.0.1", "localhost"], resolve=lambda name, port: ["127.0.0.1"])
    downloader = Downloader(guard, total_timeout_seconds=0.3)
    patient = Downloader(guard)
    patient._connections = downloader._connections
    with ThreadPoolExecutor(3) as threads:
        begun = [threads.submit(patient.get, f"{studio.url}/slow") for _ in range(2)]
        both.wait(10)
        with pytest.raises(UnreachableImageError, match=r"it took longer than 0\.3 seconds\.$"):
            downloader.get(f"{studio.url}/a")
        assert downloader.get(f"http://localhost:{studio.port}/a") == b"bytes"  # another host
        waiting = threads.submit(patient.get, f"{studio.url}/a")
        go_on.set()
        assert [each.result(10) for each in [*begun, waiting]] == [b"slow", b"slow", b"bytes"]
    assert studio.paths().count("/a") == 2


def test_one_that_waits_too_long_is_closed_without_another_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)

    def answer(listener: socket.socket) -> bytes:
        connected, _ = listener.accept()
        with connected:
            connected.settimeout(10)
            connected.recv(4096)
            connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes")
            return connected.recv(1)  # b"" when the other end has closed

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        answered = thread.submit(answer, listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a"
        assert Downloader(AddressGuard(hosts=["127.0.0.1"])).get(url) == b"bytes"
        assert answered.result(10) == b""


def test_few_wait_in_all(monkeypatch: pytest.MonkeyPatch, studio: Host, downloader: Downloader) -> None:
    monkeypatch.setattr(connections, "MOST_IDLE", 1)
    with host(keep_alive=True) as other:
        other.answers["/a"] = Answer(200, b"bytes")
        for running in [studio, other, other, studio]:
            downloader.get(f"{running.url}/a")
        assert len(set(other.clients)) == 1
        assert len(set(studio.clients)) == 2
