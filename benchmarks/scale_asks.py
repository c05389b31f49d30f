"""What `benchmarks.scale` asks for: requests, and what a web process does by itself every few seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backend.drafts import calibrating
from benchmarks.filling import APART, image_of, name
from benchmarks.loop import _created
from benchmarks.scale_stores import PROJECT, Backend
from benchmarks.scale_studio import CONFIG
from benchmarks.server import predict_request, setup_request

Ask = Callable[[Backend], Callable[[], object]]
"""Prepares a backend, and gives what is measured."""


def _get(path: str) -> Ask:
    return lambda backend: lambda: _answered(backend.client.get(path, headers={"Accept": "text/html"}))


def _post(path: str, body: Callable[[Backend], Any]) -> Ask:
    def ask(backend: Backend) -> Callable[[], object]:
        sent = body(backend)
        return lambda: _answered(backend.client.post(path, json=sent))

    return ask


def _answered(answer: Any) -> Any:
    if answer.status_code != 200:
        raise AssertionError(f"{answer.status_code}: {answer.text}")
    return answer


def _webhook(backend: Backend) -> dict[str, Any]:
    number = next(backend.new)
    task = {**_task(PROJECT * APART + number), "created_at": "2026-01-01T00:00:00Z"}
    return _created(PROJECT * APART + number, task, "a man with one red ball", {"id": PROJECT, "label_config": CONFIG})


def _task(id_: int) -> dict[str, Any]:
    return {"id": id_, "project": PROJECT, "data": {"image": image_of(PROJECT, id_)}}


def _stored(backend: Backend) -> dict[str, Any]:
    """A task that waits and has a draft."""
    number = backend.size.corrections + next(backend.new) % backend.size.waiting
    return predict_request([_task(PROJECT * APART + number)])


def _new(backend: Backend) -> dict[str, Any]:
    return predict_request([_task(PROJECT * APART + next(backend.new))])


def _version(before: str = "", back: int = 0) -> Ask:
    return lambda backend: _get(f"/projects/{PROJECT}/{before}/{name(PROJECT, backend.size.versions - back)}")(backend)


REQUESTS: dict[str, Ask] = {
    "overview": _get("/"),
    "page": _get(f"/projects/{PROJECT}"),
    "now": _get(f"/projects/{PROJECT}/now"),
    "version_page": _version("versions"),
    "webhook": _post("/webhook", _webhook),
    "predict_stored": _post("/predict", _stored),
    "predict_new": _post("/predict", _new),
    "setup": _post("/setup", lambda backend: setup_request()),
    "versions": _get(f"/versions?project={PROJECT}"),
    "train_status": _get(f"/train-status?project={PROJECT}"),
    "metrics": _get("/metrics"),
    "ready": _get("/ready"),
}


def _polled(step: str) -> Ask:
    return lambda backend: getattr(backend.watcher, step)


def _after_correction(step: Callable[[Backend], object]) -> Ask:
    def ask(backend: Backend) -> Callable[[], object]:
        _answered(backend.client.post("/webhook", json=_webhook(backend)))
        return lambda: step(backend)

    return ask


POLLS: dict[str, Ask] = {
    "poll_champions": _polled("load_champions"),
    "poll_corrections": _polled("follow_corrections"),
    "poll_new_correction": _after_correction(lambda backend: backend.watcher.follow_corrections()),
    "poll_selections": _polled("end_selections"),
    "poll_retrains": _polled("queue_retrains"),
    "poll_refreshes": _polled("queue_refreshes"),
    "poll_comparisons": _polled("schedule_comparisons"),
    "poll_calibrations": _after_correction(lambda backend: calibrating.is_due(backend.services.store, PROJECT)),
}
