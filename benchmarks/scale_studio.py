"""A Label Studio that lists tasks and serves their images: enough of it to be compared with, and to draft from."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

import labeling_config
from benchmarks.filling import APART, image_of
from benchmarks.server import _Host

UNCHANGED, CHANGED = "2026-01-01T00:00:00.000000Z", "2026-06-01T00:00:00.000000Z"
CONFIG = labeling_config.shipped("caption")


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), "red").save(buffer, "PNG")
    return buffer.getvalue()


_PICTURE = _picture()


def content(task: int) -> bytes:
    """The image of a task: small, and of another content than all others."""
    return _PICTURE + str(task).encode()


def sha256(task: int) -> str:
    return hashlib.sha256(content(task)).hexdigest()


class Studio:
    """Projects by their numbers of tasks. Of each project the tasks in `changed` have changed since they were read."""

    def __init__(self, tasks: dict[int, int]) -> None:
        self.tasks = tasks
        self.changed: dict[int, set[int]] = {project: set() for project in tasks}
        self.url = ""

    def summary(self, project: int, task: int, whole: bool = True) -> dict[str, Any]:
        """As the Data Manager lists it; otherwise only with what tells it from another state of the task."""
        changed = task in self.changed[project]
        found = {
            "id": task,
            "data": {"image": image_of(project, task)},
            "created_at": UNCHANGED,
            "updated_at": CHANGED if changed else UNCHANGED,
            "total_annotations": 1,
            "cancelled_annotations": 0,
        }
        others = {
            "project": project,
            "inner_id": task % APART,
            "total_predictions": 1,
            "annotations_results": "",
            "predictions_results": "",
            "file_upload": None,
            "annotators": [1],
            "is_labeled": True,
        }
        return {**found, **others} if whole else found

    def full(self, project: int, task: int) -> dict[str, Any]:
        """With the annotation that the store has, changed where the task is."""
        texts = [f"a man with {task % 97} {'red' if task % 3 else 'small blue'} balls, and more"]
        result = {"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": texts}}
        annotation = {
            "id": task + 1,
            "result": [result],
            "updated_at": CHANGED,
            "was_cancelled": False,
            "updated_by": 1,
        }
        return {**self.summary(project, task), "annotations": [annotation], "predictions": []}

    def answer(self, path: str, asked: dict[str, list[str]]) -> Any:
        if found := re.fullmatch(r"/api/projects/(\d+)", path):
            return {"id": int(found[1]), "label_config": CONFIG, "model_version": ""}
        if path == "/api/tasks":
            return self._listed(asked)
        if found := re.fullmatch(r"/data/upload/\d+/(\d+)\.jpg", path):
            return content(int(found[1]))
        return None

    def _listed(self, asked: dict[str, list[str]]) -> dict[str, Any]:
        project, size, query = int(asked["project"][0]), int(asked["page_size"][0]), json.loads(asked["query"][0])
        first, last, lately = project * APART, project * APART + self.tasks[project] - 1, False
        for item in query.get("filters", {}).get("items", ()):
            kind, operator = item["filter"].removeprefix("filter:tasks:"), item["operator"]
            if kind == "id":
                first = max(first, item["value"] + 1) if operator == "greater" else first
                last = min(last, item["value"]) if operator == "less_or_equal" else last
            lately |= kind == "updated_at"
        ids: Sequence[int] = query.get("selectedItems", {}).get("included") or range(first, last + 1)
        if lately:
            ids = sorted(each for each in self.changed[project] if first <= each <= last)
        make = self.full if asked.get("fields") else self.summary
        return {"tasks": [make(project, each) for each in ids[:size]], "total": len(ids)}


@contextmanager
def serving(studio: Studio) -> Iterator[None]:
    """Serves it on a port of loopback; `url` then has the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found = studio.answer(parts.path, parse_qs(parts.query))
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = _Host(("127.0.0.1", 0), Handler)
    studio.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
