from __future__ import annotations

import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from backend.domain.errors import ImageError
from backend.images.addresses import AddressGuard, Origin
from backend.images.download import Downloader, StatusError, shown
from tests.fakes import Answer, Host, host

CERTIFICATE = Path(__file__).parents[3] / "assets" / "photos.example.pem"


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Host]:
    with host() as running:
        yield running


def downloader(*hosts: Host, **limits: float) -> Downloader:
    return Downloader(AddressGuard(hosts=[h.address for h in hosts]), **limits)  # type: ignore[arg-type]


def test_a_body_comes_back_with_its_query_and_odd_characters(studio: Host) -> None:
    studio.answers["/a%20b/%C3%A9.jpg"] = Answer(200, b"bytes")
    assert downloader(studio).get(f"{studio.url}/a b/é.jpg?x=1&y=a%2Fb") == b"bytes"
    path, headers = studio.asked[0]
    assert path == "/a%20b/%C3%A9.jpg?x=1&y=a%2Fb"
    assert headers["host"] == studio.address
    assert "authorization" not in headers


def test_the_named_host_gets_the_request_under_its_name(studio: Host) -> None:
    studio.answers["/a"] = Answer(200, b"bytes")
    guard = AddressGuard(hosts=["photos.example"], resolve=lambda name, port: ["127.0.0.1"])
    assert Downloader(guard).get(f"http://photos.example:{studio.port}/a") == b"bytes"
    assert studio.asked[0][1]["host"] == f"photos.example:{studio.port}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_gets_no_credentials(studio: Host, other: Host, status: int) -> None:
    studio.answers["/presign"] = Answer(status, headers={"Location": f"{other.url}/bucket"})
    other.answers["/bucket"] = Answer(200, b"bytes")
    owner = Origin.of(studio.url)
    assert downloader(studio, other).get(f"{studio.url}/presign", authorization="Token t", owner=owner) == b"bytes"
    assert studio.credentials() == ["Token t"]
    assert other.credentials() == [None]


def test_a_redirect_back_to_the_owner_gets_none_either(studio: Host, other: Host) -> None:
    studio.answers |= {"/a": Answer(302, headers={"Location": f"{other.url}/b"}), "/c": Answer(200, b"bytes")}
    other.answers["/b"] = Answer(302, headers={"Location": f"{studio.url}/c"})
    downloader(studio, other).get(f"{studio.url}/a", authorization="Token t", owner=Origin.of(studio.url))
    assert studio.credentials() == ["Token t", None]


def test_a_redirect_within_the_owner_keeps_them(studio: Host) -> None:
    studio.answers |= {"/a": Answer(302, headers={"Location": "b"}), "/b": Answer(200, b"bytes")}
    downloader(studio).get(f"{studio.url}/a", authorization="Token t", owner=Origin.of(studio.url))
    assert studio.credentials() == ["Token t", "Token t"]


def test_credentials_do_not_go_to_an_address_that_is_not_their_owners(studio: Host, other: Host) -> None:
    other.answers["/a"] = Answer(200, b"bytes")
    downloader(other).get(f"{other.url}/a", authorization="Token t", owner=Origin.of(studio.url))
    assert other.credentials() == [None]


def test_every_hop_of_a_redirect_is_checked(studio: Host, other: Host) -> None:
    studio.answers["/a"] = Answer(302, headers={"Location": f"{other.url}/inside"})
    with pytest.raises(ImageError, match=f"CAPTIONER_IMAGE_HOSTS names {other.address}"):
        downloader(studio).get(f"{studio.url}/a")
    assert other.asked == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1/", "http://[", ""])
def test_redirects_to_other_than_http_are_refused(studio: Host, location: str) -> None:
    studio.answers["/a"] = Answer(302, headers={"Location": location})
    with pytest.raises(ImageError):
        downloader(studio).get(f"{studio.url}/a")


def test_redirects_come_to_an_end(studio: Host) -> None:
    studio.answers["/a"] = Answer(302, headers={"Location": "/a"})
    with pytest.raises(ImageError, match="more than 5 redirects"):
        downloader(studio).get(f"{studio.url}/a")
    assert len(studio.asked) == 6


def test_an_error_status_is_told(studio: Host) -> None:
    with pytest.raises(StatusError, match=r"/gone could not be fetched: 127\.0\.0\.1 answered 404\.$") as caught:
        downloader(studio).get(f"{studio.url}/gone?signature=secret")
    assert caught.value.status == 404
    assert "secret" not in str(caught.value)


def test_too_much_is_refused_whether_announced_or_not(studio: Host) -> None:
    def unannounced(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 300_000)

    studio.answers |= {"/announced": Answer(200, b"x" * 300_000), "/unannounced": unannounced}
    small = downloader(studio, max_bytes=200_000)
    for path in ["/announced", "/unannounced"]:
        with pytest.raises(ImageError, match="is larger than"):
            small.get(studio.url + path)
    assert len(downloader(studio, max_bytes=300_000).get(f"{studio.url}/announced")) == 300_000


def test_half_a_body_is_an_error(studio: Host) -> None:
    studio.answers["/half"] = Answer(200, b"half", headers={"Content-Length": "8"})
    with pytest.raises(ImageError, match="could not be fetched: IncompleteRead"):
        downloader(studio).get(f"{studio.url}/half")


PLAIN = b"bytes" * 20
GZIPPED = gzip.compress(PLAIN, mtime=0)
LONGER = gzip.compress(PLAIN + b"x", mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", GZIPPED),
        ("x-gzip", GZIPPED),
        ("GZIP", gzip.compress(PLAIN[:40], mtime=0) + gzip.compress(PLAIN[40:], mtime=0)),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", zlib.compress(PLAIN)[2:-4]),
        ("deflate, gzip", gzip.compress(zlib.compress(PLAIN), mtime=0)),
        ("aws-chunked,gzip", GZIPPED),
        ("gzip", PLAIN),  # it says so and does not do it
        ("utf-8", PLAIN),
        ("identity", PLAIN),
        ("", PLAIN),
    ],
)
def test_a_body_that_was_sent_compressed_is_decompressed(studio: Host, encoding: str, body: bytes) -> None:
    studio.answers["/a"] = Answer(200, body, {"Content-Encoding": encoding})
    assert downloader(studio, max_bytes=len(PLAIN)).get(f"{studio.url}/a") == PLAIN


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("gzip", LONGER, r"is larger than .* MB\.$"),
        ("deflate", zlib.compress(PLAIN + b"x"), r"is larger than .* MB\.$"),
        ("br", b"\x0b\x02\x80bytes\x03", r"could not be fetched: it was sent compressed \(br\), which is not read\.$"),
        ("gzip, gzip, gzip", PLAIN, r"it was sent compressed \(gzip, gzip, gzip\), which is not read\.$"),
        ("gzip", GZIPPED[:-8] + b"\0" * 8, r"it was sent compressed \(gzip\) and damaged\.$"),
        ("gzip", GZIPPED[:-10], r"could not be fetched: IncompleteRead"),
        ("deflate", zlib.compress(PLAIN)[:-8], r"could not be fetched: IncompleteRead"),
        ("deflate", b"\xff" * 9, r"it was sent compressed \(deflate\) and damaged\.$"),
    ],
)
def test_what_cannot_be_decompressed_within_the_limit_is_told(
    studio: Host, encoding: str, body: bytes, reason: str
) -> None:
    studio.answers["/a"] = Answer(200, body, {"Content-Encoding": encoding})
    with pytest.raises(ImageError, match=reason):
        downloader(studio, max_bytes=len(PLAIN)).get(f"{studio.url}/a")


@pytest.mark.parametrize("start", [b"", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 200 OK\r\n\r\nbytes"])
def test_a_server_that_drips_is_ended_by_the_clock(start: bytes) -> None:
    stop = threading.Event()

    def drip(listener: socket.socket) -> None:
        connected, _ = listener.accept()
        with connected:
            connected.sendall(start)
            while not stop.wait(0.05):
                try:
                    connected.sendall(b"x")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        slow = Downloader(AddressGuard(hosts=["127.0.0.1"]), total_timeout_seconds=0.5)
        with pytest.raises(ImageError, match=r"it took longer than 0\.5 seconds\.$"):
            slow.get(f"http://127.0.0.1:{port}/")
        stop.set()
        thread.join(10)


def test_the_environment_puts_no_proxy_in_between(studio: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy"]:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    studio.answers["/a"] = Answer(200, b"bytes")
    assert downloader(studio).get(f"{studio.url}/a") == b"bytes"


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's TLS as photos.example, whose certificate the downloader trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@contextmanager
def tls_host(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """A port that answers one request over TLS, and what it was asked."""
    asked: list[bytes] = []

    def answer(listener: socket.socket) -> None:
        connected, _ = listener.accept()
        with suppress(OSError), context.wrap_socket(connected, server_side=True) as secure:
            asked.append(secure.recv(4096))
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join(10)


def named(name: str) -> Downloader:
    return Downloader(AddressGuard(hosts=[name], resolve=lambda name, port: ["127.0.0.1"]))


def test_https_goes_to_the_checked_address_under_the_certificates_name(trusted: ssl.SSLContext) -> None:
    with tls_host(trusted) as (port, asked):
        assert named("photos.example").get(f"https://photos.example:{port}/a") == b"bytes"
    assert asked[0].startswith(b"GET /a HTTP/1.1\r\nHost: photos.example")


def test_a_certificate_of_another_name_is_refused(trusted: ssl.SSLContext) -> None:
    with tls_host(trusted) as (port, asked), pytest.raises(ImageError, match="certificate"):
        named("other.example").get(f"https://other.example:{port}/a")
    assert not any(asked)


def test_an_unknown_certificate_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with tls_host(context) as (port, asked), pytest.raises(ImageError, match="certificate"):
        named("photos.example").get(f"https://photos.example:{port}/a")
    assert not any(asked)


def test_addresses_are_shown_without_secrets() -> None:
    assert shown("https://user:pw@bucket.example/a/b.jpg?X-Signature=s#f") == "https://bucket.example/a/b.jpg"
    assert shown("s3://bucket/key.jpg") == "s3://bucket/key.jpg"
