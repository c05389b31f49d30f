"""A small Label Studio on loopback: the calls this project makes, answered as by 1.23.2, with recorded refusals."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from labeling_config import shipped

REFUSALS = json.loads((Path(__file__).parents[3] / "assets" / "recordings" / "60_refusals.json").read_text())
LEGACY, PERSONAL = "0" * 40, "eyJhbGciOiJIUzI1NiJ9.e30.signature"


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    params: dict[str, str]
    body: Any
    authorization: str | None


@dataclass
class FakeLabelStudio:
    """What it holds, what it refuses (by method and path, one of the recorded refusals), and what it was asked."""

    url: str = ""
    ahead_seconds: float = 0  # of its clock
    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    backends: list[dict[str, Any]] = field(default_factory=list)
    hooks: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    access: int = 0  # number of the access token that is valid
    legacy_tokens: bool = True
    moved: str = "https://elsewhere.example/"  # where its redirects lead
    stored: dict[str, int] = field(default_factory=dict)  # predictions by version

    def made(self, method: str) -> list[tuple[str, Any]]:
        return [(call.path, call.body) for call in self.calls if call.method == method]

    def answer(self, call: Call) -> tuple[int, Any]:
        key = (call.method, call.path)
        if key in self.refused:
            return self.recorded(self.refused[key])
        if key in self.answers:
            return self.answers[key]
        if call.path == "/api/token/refresh/":
            if call.body != {"refresh": PERSONAL}:
                return self.recorded("personal_token_wrong")
            self.access += 1
            return 200, {"access": f"access-{self.access}"}
        if call.authorization not in {f"Token {LEGACY}", f"Bearer access-{self.access}"}:
            return self.recorded("access_token_wrong")
        return self.serve(call)

    def serve(self, call: Call) -> tuple[int, Any]:
        if call.path == "/api/projects":
            return 200, {"count": len(self.projects), "results": list(self.projects.values())}
        room, _, number = call.path.removeprefix("/api/").partition("/")
        if room == "projects" and number.isdigit():
            project = self.projects.get(int(number))
            if project is None:
                return self.recorded("no_such_project")
            if call.method == "PATCH":
                project |= call.body
            return 200, project
        if room == "projects" and number.endswith("/model-versions"):
            return 200, self.stored
        if room == "projects" and number.endswith("/import"):
            first = len(self.tasks) + 1
            new = call.body if isinstance(call.body, list) else [{}] * call.body.count(b"filename=")
            self.tasks += [{"id": first + n, **task} for n, task in enumerate(new)]
            return 201, {"task_ids": list(range(first, len(self.tasks) + 1))}
        if room == "tasks":
            page, size = int(call.params["page"]), int(call.params["page_size"])
            return 200, {"total": len(self.tasks), "tasks": self.tasks[(page - 1) * size : page * size]}
        if room == "jwt":
            return 200, {"api_tokens_enabled": True, "legacy_api_tokens_enabled": self.legacy_tokens}
        if room in {"ml", "webhooks"}:
            return self.records(call, self.backends if room == "ml" else self.hooks, number)
        return 404, {"detail": "Not found."}

    def records(self, call: Call, kept: list[dict[str, Any]], number: str) -> tuple[int, Any]:
        if call.method == "GET":
            return 200, [record for record in kept if record["project"] == int(call.params["project"])]
        if call.method == "PATCH":
            record = next(record for record in kept if record["id"] == int(number))
            if kept is self.backends and not {"url", "project"} <= set(call.body):
                return 500, {"detail": "KeyError"}
            record |= call.body
            return 200, record
        record = {"id": len(kept) + 1, "headers": {}, "state": "CO", **call.body}
        kept.append(record)
        hook_url = f"{record['url'].rstrip('/')}/webhook"
        host = str(urlsplit(record["url"]).hostname)
        if kept is self.backends and ("." in host or host == "localhost"):
            self.hooks.append({"id": len(self.hooks) + 1, "project": record["project"], "url": hook_url, "headers": {}})
        return 201, record

    def recorded(self, name: str) -> tuple[int, Any]:
        response = REFUSALS[name]["response"]
        return response["status"], response["body"]


@pytest.fixture
def label_studio() -> Iterator[FakeLabelStudio]:
    with running() as fake:
        yield fake


@contextmanager
def running() -> Iterator[FakeLabelStudio]:
    """A running one with project 3, whose caption box is the shipped one."""
    fake = FakeLabelStudio()
    project = {"id": 3, "label_config": shipped("caption"), "show_collab_predictions": True, "model_version": ""}
    fake.projects[3] = project

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + fake.ahead_seconds if timestamp is None else timestamp)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body: Any = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Type") == "application/json":
                body = json.loads(body)
            call = Call(
                self.command, parts.path, dict(parse_qsl(parts.query)), body or None, self.headers.get("Authorization")
            )
            fake.calls.append(call)
            status, answer = fake.answer(call)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", fake.moved)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: calls are kept."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def unused_tcp_url() -> Iterator[str]:
    """An address at which nobody answers: its port is taken but not listened at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
