"""Small stand-ins for what tests must not depend on. Hosts are real HTTP servers on loopback."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from training.errors import DataError


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Host:
    """A running HTTP server: what it answers by path (without query), and what it was asked."""

    port: int
    answers: dict[str, Answer | Callable[[BaseHTTPRequestHandler], Answer | None]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    clients: list[int] = field(default_factory=list)
    """The other end's port of each request's connection."""
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def credentials(self) -> list[str | None]:
        """The Authorization header of each request it got."""
        return [headers.get("authorization") for _, headers in self.asked]

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def host(certificate: Path | None = None, keep_alive: bool = False) -> Iterator[Host]:
    """A host on a free loopback port for the time of the block. An answer None means: it wrote the answer itself.

    With a `certificate` (and its key in the same file) it speaks https, with `keep_alive` HTTP/1.1.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            running.clients.append(self.client_address[1])
            running.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
            found = running.answers.get(self.path.split("?")[0], Answer(404))
            answer = found(self) if callable(found) else found
            if answer is None:
                return
            self.send_response(answer.status)
            for key, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what was asked is kept in `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Host(server.server_address[1], scheme="https" if certificate else "http")
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Hypothesis:
    text: str
    score: float
    tokens: tuple[int, ...] = ()
    feature: bytes | None = None
    signals: Any = None


class Model:
    """A captioner that says its name and the file's, and remembers its batches. A file called *bad* is unreadable."""

    feature_space: Any = None
    device: Any = SimpleNamespace(type="cuda")  # whose batches may be full

    def __init__(self, name: str, gate: threading.Event | None = None) -> None:
        self.name = name
        self.gate = gate
        self.started = threading.Event()
        self.batches: list[list[str]] = []

    def retrieval_with(self, corrections: Sequence[Any], features: Any) -> Any:
        return None

    def read(self, image: Path) -> Any:
        """Its pixels: here its path."""
        if "bad" in image.name:
            raise DataError(f"The image {image} cannot be read.")
        return image

    def caption_pixels(self, images: Sequence[Any], *, retrieval: Any = None) -> list[Hypothesis]:
        self.batches.append([image.name for image in images])
        self.started.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        return [Hypothesis(f"{self.name} on {image.name}", 0.5) for image in images]

    def complete(self, images: Sequence[Any], hint: str) -> list[Hypothesis]:
        self.batches.append([image.name for image in images])
        return [Hypothesis(f"{hint}, says {self.name}", 0.4) for _ in images]


def scarce(work: Callable[..., Any], most: int) -> Callable[..., Any]:
    """A method that runs out of memory over more than so many items in its first argument."""
    import torch

    def limited(self: Any, items: Any, *others: Any, **options: Any) -> Any:
        if len(items) > most:
            raise torch.OutOfMemoryError(f"CUDA out of memory over {len(items)} items.")
        return work(self, items, *others, **options)

    return limited
