"""A Label Studio for `benchmarks.soak`: one project in memory, with the calls that the backend makes of it.

Its people annotate by `annotate`, `change` and `delete`, which return what Label Studio would send as a webhook. What
it holds is the truth that the backend's database must come to. Images come from a host of their own.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import labeling_config
from backend.label_studio import wire

PROJECT = 1
SLOW_SECONDS = 8.0
WELL, FAILING, GARBAGE, SLOW, HANGING = "well", "failing", "garbage", "slow", "hanging"
"""How a server answers: as it should, with 500, with what is no JSON, late, not at all."""

CONFIG = labeling_config.shipped("caption")
_TAGS = labeling_config.parse(CONFIG)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "equal": lambda found, wanted: found == wanted,
    "greater": lambda found, wanted: found > wanted,
    "greater_or_equal": lambda found, wanted: found >= wanted,
    "less_or_equal": lambda found, wanted: found <= wanted,
    "contains": lambda found, wanted: any(part in each for part in wanted for each in found),
}

Json = dict[str, Any]


@dataclass
class _Task:
    id: int
    image: str
    created_at: str
    updated_at: str
    annotations: dict[int, Json] = field(default_factory=dict)
    predictions: list[Json] = field(default_factory=list)

    def value(self, name: str) -> Any:
        """What a filter of the Data Manager compares."""
        return {
            "id": self.id,
            "updated_at": self.updated_at,
            "total_annotations": len(self.annotations),
            "cancelled_annotations": 0,
            "total_predictions": len(self.predictions),
            "predictions_model_versions": [each["model_version"] for each in self.predictions],
            "draft_exists": False,
        }[name]

    def to_json(self, whole: bool) -> Json:
        found: Json = {"id": self.id, "project": PROJECT, "data": {"image": self.image}, "created_at": self.created_at}
        found |= {name: self.value(name) for name in ("updated_at", "total_annotations", "cancelled_annotations")}
        if whole:
            found |= {"annotations": list(self.annotations.values()), "predictions": list(self.predictions)}
        return json.loads(json.dumps(found))  # what is sent is as it was now


class Studio:
    """The project. Threads may share it; `mode` is how its server answers."""

    def __init__(self) -> None:
        self.mode = WELL
        self.url = ""
        self._lock = threading.RLock()
        self._ids = count(1)
        self._tasks: dict[int, _Task] = {}
        self._task_of: dict[int, int] = {}  # by annotation
        self._project: Json = {"id": PROJECT, "label_config": CONFIG, "model_version": ""}
        self._last = 0.0

    # What people do

    def add_task(self, image: str) -> Json:
        with self._lock:
            moment = self._moment()
            task = _Task(next(self._ids), image, moment, moment)
            self._tasks[task.id] = task
            return task.to_json(whole=False)

    def unlabelled(self) -> list[Json]:
        with self._lock:
            return [task.to_json(whole=False) for task in self._tasks.values() if not task.annotations]

    def annotate(self, task_id: int, text: str, annotator: int) -> Json:
        """The body of the webhook, with the task."""
        with self._lock:
            moment = self._moment()
            annotation: Json = {
                "id": next(self._ids),
                "task": task_id,
                "project": PROJECT,
                "result": [wire.result(_TAGS, text, origin="manual")],
                "was_cancelled": False,
                "ground_truth": False,
                "completed_by": annotator,
                "updated_by": annotator,
                "created_at": moment,
                "updated_at": moment,
            }
            self._task_of[annotation["id"]] = task_id
            return self._saved(annotation, "ANNOTATION_CREATED")

    def change(self, annotation_id: int, text: str) -> Json:
        with self._lock:
            old = self._tasks[self._task_of[annotation_id]].annotations[annotation_id]
            result = [wire.result(_TAGS, text, origin="manual")]
            return self._saved({**old, "result": result, "updated_at": self._moment()}, "ANNOTATION_UPDATED")

    def delete(self, annotation_id: int) -> Json:
        with self._lock:
            task = self._tasks[self._task_of[annotation_id]]
            del task.annotations[annotation_id]
            task.updated_at = self._moment()
            return {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": annotation_id}], "project": self._brief()}

    def texts(self) -> dict[int, str | None]:
        """The caption of every annotation that was ever made; None where it was deleted."""
        with self._lock:
            found: dict[int, str | None] = dict.fromkeys(self._task_of)
            for task in self._tasks.values():
                for id_, annotation in task.annotations.items():
                    found[id_] = annotation["result"][0]["value"]["text"][0]
            return found

    def predicted(self) -> Counter[str]:
        """Predictions by version."""
        with self._lock:
            return Counter(each["model_version"] for task in self._tasks.values() for each in task.predictions)

    def _saved(self, annotation: Json, action: str) -> Json:
        task = self._tasks[annotation["task"]]
        task.annotations[annotation["id"]] = annotation
        task.updated_at = annotation["updated_at"]
        return {
            "action": action,
            "annotation": annotation,
            "task": task.to_json(whole=False),
            "project": self._brief(),
        }

    def _brief(self) -> Json:
        return {"id": PROJECT, "label_config": CONFIG}

    def _moment(self) -> str:
        """Now, and later than any moment before."""
        self._last = max(time.time(), self._last + 1e-5)
        return datetime.fromtimestamp(self._last, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    # What its API answers

    def answer(self, method: str, path: str, params: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Status and JSON."""
        with self._lock:
            if path == f"/api/projects/{PROJECT}":
                if method == "PATCH":
                    self._project |= body
                return 200, self._project
            if path == f"/api/projects/{PROJECT}/model-versions":
                return 200, dict(self.predicted())
            if path == f"/api/projects/{PROJECT}/import/predictions":
                return self._import(body)
            if path == "/api/tasks":
                return 200, self._page(params)
            if path == "/api/predictions" and method == "POST":
                return self._import([body])
            if path.startswith("/api/predictions/"):
                return self._prediction(method, int(path.rpartition("/")[2]), body)
            if path in {"/api/ml", "/api/webhooks"}:
                return 200, [{"id": 1, "title": "captioner", "project": PROJECT, "url": self.url}]
            return 404, {"detail": "Not found."}

    def _page(self, params: Mapping[str, str]) -> Json:
        query = json.loads(params["query"])
        items = query.get("filters", {}).get("items", [])
        included = query.get("selectedItems", {}).get("included")
        found = [
            task
            for id_, task in sorted(self._tasks.items())
            if (included is None or id_ in included)
            and all(
                _OPERATORS[each["operator"]](task.value(each["filter"].removeprefix("filter:tasks:")), each["value"])
                for each in items
            )
        ]
        page = found[: int(params["page_size"])]
        return {"total": len(found), "tasks": [task.to_json(params.get("fields") == "all") for task in page]}

    def _import(self, predictions: list[Json]) -> tuple[int, Any]:
        for each in predictions:
            if each["task"] not in self._tasks:
                return 400, {"detail": f"task ID {each['task']} not found in project"}
        for each in predictions:
            self._tasks[each["task"]].predictions.append({"id": next(self._ids), **each})
        return 201, {"created": len(predictions)}

    def _prediction(self, method: str, prediction_id: int, body: Any) -> tuple[int, Any]:
        for task in self._tasks.values():
            for each in task.predictions:
                if each["id"] == prediction_id:
                    if method == "DELETE":
                        task.predictions.remove(each)
                        return 204, None
                    each |= body
                    return 200, each
        return 404, {"detail": "Not found."}


class Pictures:
    """A host of image files; `mode` is how it answers."""

    def __init__(self, folder: Path) -> None:
        self.mode = WELL
        self.url = ""
        self._folder = folder

    def answer(self, method: str, path: str, params: Mapping[str, str], body: Any) -> tuple[int, Any]:
        file = self._folder / Path(path).name
        return (200, file.read_bytes()) if file.is_file() else (404, {"detail": "Not found."})


@contextmanager
def serving(what: Studio | Pictures) -> Iterator[str]:
    """Serve it on a port of 127.0.0.1; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if what.mode == HANGING:
                while what.mode == HANGING and not ended.wait(0.2):
                    pass
                return
            if what.mode == SLOW:
                ended.wait(SLOW_SECONDS)
            parts = urlsplit(self.path)
            status, found = 500, b"<html>Server Error (500)</html>"
            if what.mode == GARBAGE:
                status, found = 200, b"<html>Welcome</html>"
            elif what.mode != FAILING:
                given = json.loads(body) if body else None
                status, answered = what.answer(self.command, parts.path, dict(parse_qsl(parts.query)), given)
                found = answered if isinstance(answered, bytes) else json.dumps(answered).encode()
            content = b"" if status == 204 else found
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def handle(self) -> None:
            with suppress(OSError):  # whoever asked was killed
                super().handle()

    ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    what.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield what.url
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
