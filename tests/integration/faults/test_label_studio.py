"""Label Studio answers garbage, or nothing: that is one sentence, and what is known of its tasks stays."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from backend.corrections.reconcile import reconcile_if_possible
from backend.domain.errors import LabelStudioError
from backend.drafts.refresh import refresh_if_possible
from backend.label_studio import api
from backend.label_studio.client import LabelStudio
from backend.settings import Settings
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import correction, saved, settings
from tests.fakes import Answer, Host, host

CONFIG = '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'
DEEP = b"[" * 200_000
ODD: tuple[Any, ...] = (5, [], {}, {"id": "x", "data": 7}, {"id": 1e999})


def page(**fields: Any) -> bytes:
    """A page in which everything but the labelling config may be of a wrong type."""
    return json.dumps(
        {"id": 1, "label_config": CONFIG, "model_version": "v0", "total": 1, "count": 1, **fields}
    ).encode()


def silent(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True


GARBAGE: dict[str, Any] = {
    "HTML": Answer(body=b"<html>Sign in</html>"),
    "HTML with an error": Answer(500, b"<html>Sorry</html>"),
    "HTML of a gateway": Answer(502, b"<html>Bad Gateway</html>"),
    "half a JSON": Answer(body=b'{"label_config": "<View>", "tasks": [{"id"'),
    "no UTF-8": Answer(body=b'{"tasks": "\xff\xfe"}'),
    "nesting": Answer(body=DEEP),
    "nesting in an error": Answer(400, DEEP),
    "nothing": Answer(body=b""),
    "no connection": silent,
    "a redirect": Answer(302, headers={"Location": "http://127.0.0.1:1/login"}),
    "a redirect to no address": Answer(302, headers={"Location": "http://[::1"}),
    **{f"{value} alone": Answer(body=json.dumps(value).encode()) for value in (None, 5, [], {})},
    "no tasks": Answer(body=page()),
    "tasks that are a number": Answer(body=page(tasks=5)),
    "tasks that are an object": Answer(body=page(tasks={"a": 1})),
    "tasks that do not come": Answer(body=page(tasks=[], total=2)),
    "a total that is a text": Answer(body=page(tasks=[], total="many")),
    "a total that is a list": Answer(body=page(tasks=[], total=[1])),
    "a config that is a number": Answer(body=page(label_config=5)),
    "a config that is no XML": Answer(body=page(label_config="<View")),
    **{f"the task {value}": Answer(body=page(tasks=[value])) for value in ODD},
    "annotations that are a number": Answer(
        body=page(tasks=[{"id": 1, "data": {}, "annotations": 5, "predictions": 5}])
    ),
    "annotations that are numbers": Answer(
        body=page(tasks=[{"id": 1, "data": {}, "annotations": [5], "predictions": [5]}])
    ),
}


class Everywhere(dict[str, Any]):
    """The same answer whatever is asked for."""

    def get(self, path: str, default: object = None) -> Any:
        return self["answer"]


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as studio:
        studio.answers = Everywhere()
        yield studio


@pytest.fixture
def configured(tmp_path: Path, studio: Host, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", (5.0, 5.0))
    return settings(tmp_path, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY="0" * 40)


def is_sentence(text: str | None) -> bool:
    return text is not None and "\n" not in text and "log tells" not in text


def test_garbage_is_one_sentence_and_changes_nothing(
    configured: Settings, studio: Host, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(configured.database_url)
    store.migrate()
    store.record(saved(correction(1), correction(2)))
    registry = Registry(store)
    registry.register(ModelVersion("v1", configured.data_dir / "models" / "v1", 1))
    registry.promote(1, "v1", reason="for a test", by="test")
    for kind, answer in GARBAGE.items():
        studio.answers["answer"] = answer
        reconcile_if_possible(configured, store, 1)
        compared = store.reconciliation_state(1)
        assert is_sentence(compared.failure) or compared.unreadable, kind
        refresh_if_possible(configured, store, 1)
        refreshed = store.refresh_state(1)
        assert not refreshed.failure or is_sentence(refreshed.failure), kind
        assert not refreshed.stored, kind
        assert len(store.corrections(1)) == 2, kind
    assert "Traceback" not in caplog.text


def test_each_call_refuses_garbage(configured: Settings, studio: Host, tmp_path: Path) -> None:
    client = LabelStudio(studio.url, "0" * 40)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    calls: tuple[Callable[[], object], ...] = (
        lambda: client.project(1),
        lambda: client.projects(),
        lambda: client.create_project("a", CONFIG),
        lambda: client.upload_images(1, [photo]),
        lambda: list(client.tasks(1)),
        lambda: list(client.task_summaries(1, set())),
        lambda: client.full_tasks(1, [1], set()),
        lambda: client.unlabelled(1, 0, 10, set()),
        lambda: client.tasks_being_edited(1, [1]),
        lambda: client.import_predictions(1, [{"task": 1}]),
        lambda: client.counts_little(1),
        lambda: client.model_versions(1),
        lambda: client.ml_backends(1),
        lambda: client.webhooks(1),
        lambda: client.legacy_tokens_enabled(),
    )
    for answer in GARBAGE.values():
        studio.answers["answer"] = answer
        for call in calls:
            with suppress(LabelStudioError):  # anything else would be a traceback somewhere
                call()


def test_a_slow_label_studio_is_given_up(configured: Settings, studio: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", (5.0, 0.1))
    over = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        over.wait(20)

    studio.answers["answer"] = hang
    store = Store(configured.database_url)
    store.migrate()
    store.record(saved(correction(1)))
    reconcile_if_possible(configured, store, 1)
    over.set()
    assert "did not answer GET /api/projects/1 in time" in str(store.reconciliation_state(1).failure)
