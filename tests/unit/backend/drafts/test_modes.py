from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

import labeling_config
from backend.cli.main import main
from backend.domain.errors import LabelStudioError, LabelStudioRefusalError
from backend.drafts.modes import to_live
from backend.label_studio.client import LabelStudio
from backend.store.drafts.refreshes import DONE, DRAFTING, LIVE, STORED, RefreshState
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import settings
from tests.fakes import Answer, Host, host

KEY = "0" * 40
CONFIG = labeling_config.shipped("caption")


def answer(body: Any) -> Answer:
    return Answer(body=json.dumps(body).encode())


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        running.answers["/api/projects/1"] = answer({"id": 1, "model_version": "captioner", "label_config": CONFIG})
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    store.save_project(1, "<View/>")
    return store


def captioner(tmp_path: Path, studio: Host, *arguments: str) -> Any:
    environ = {"CAPTIONER_DATA_DIR": str(tmp_path), "LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": KEY}
    return CliRunner().invoke(main, [*arguments, "--project", "1"], env=environ)


def promote(store: Store, version: str) -> None:
    Registry(store).register(ModelVersion(version, Path("checkpoint")))
    Registry(store).promote(1, version, reason="for a test", by="test")


def test_the_mode_is_what_label_studio_says(tmp_path: Path, studio: Host, store: Store) -> None:
    promote(store, "v1")
    for shown, mode in (("captioner", LIVE), ("v1", STORED), ("somebody's", LIVE), (None, LIVE)):
        studio.answers["/api/projects/1"] = answer({"id": 1, "model_version": shown})
        assert captioner(tmp_path, studio, "mode").output == f"Project 1 is {mode}.\n"
        assert store.refresh_state(1).mode == mode


def test_stored_is_begun_in_the_background_and_entered_last(tmp_path: Path, studio: Host, store: Store) -> None:
    refused = captioner(tmp_path, studio, "mode", "stored")
    assert (refused.exit_code, "no model for project 1 yet" in refused.output) == (1, True)
    promote(store, "v1")
    assert "Label Studio is switched" in captioner(tmp_path, studio, "mode", "stored").output
    state = store.refresh_state(1)
    assert (state.wanted, state.is_due("v1", 0)) == (STORED, True)
    assert "is live, and becomes stored once" in captioner(tmp_path, studio, "mode").output
    assert "PATCH" not in str(studio.asked)


class Client:
    """Of a Label Studio whose project has these ML backends."""

    def __init__(self, *titles: str) -> None:
        self.titles, self.sent = titles, dict[str, Any]()

    def ml_backends(self, project_id: int) -> list[Any]:
        return [{"title": title} for title in self.titles]

    def project(self, project_id: int) -> dict[str, Any]:
        return {"id": project_id, "model_version": "v1"}

    def update_project(self, project_id: int, **fields: Any) -> None:
        self.sent |= fields


def test_live_is_entered_at_once(store: Store) -> None:
    store.order_refresh(1, wanted=STORED, mode=STORED)
    with pytest.raises(LabelStudioError, match="no ML backend to ask: `captioner connect`"):
        to_live(Client(), store, 1)  # type: ignore[arg-type]
    client = Client("my own title", "another")
    to_live(client, store, 1)  # type: ignore[arg-type]
    assert client.sent == {"model_version": "my own title"}
    assert (store.refresh_state(1).mode, store.refresh_state(1).wanted) == (LIVE, None)


def test_a_run_is_stopped_and_gone_on_with_by_commands(tmp_path: Path, studio: Host, store: Store) -> None:
    store.order_refresh(1, version="v1", state=DRAFTING, stored=5)
    assert "`captioner refresh --project 1` continues it" in captioner(tmp_path, studio, "refresh", "--stop").output
    assert store.refresh_state(1).stopped
    assert captioner(tmp_path, studio, "refresh").exit_code == 0
    state = store.refresh_state(1)
    assert (state.stopped, state.version, state.stored, state.lease) == (False, "v1", 5, 3)
    store.order_refresh(1, state=DONE)
    captioner(tmp_path, studio, "refresh")
    assert store.refresh_state(1).version is None, "begun anew"
    other = CliRunner().invoke(main, ["refresh", "--project", "9"], env={"CAPTIONER_DATA_DIR": str(tmp_path)})
    assert "Project 9 is not connected" in other.output


def test_who_is_late_writes_nothing(store: Store) -> None:
    assert store.refresh_state(1) == RefreshState(1)
    first = store.claim_refresh(1)
    assert first
    assert store.claim_refresh(1) is None, "another is at it"
    store.stop_refresh(1)
    assert not store.save_refresh(1, first.lease, state=DRAFTING)
    assert store.refresh_state(1).stopped


def test_the_client_lists_what_nobody_has_labelled(studio: Host) -> None:
    def tasks(request: BaseHTTPRequestHandler) -> Answer:
        asked = {key: value[0] for key, value in parse_qs(urlsplit(request.path).query).items()}
        query = json.loads(asked["query"])
        seen.append(
            {each["filter"].split(":")[-1]: each["value"] for each in query["filters"]["items"]}
            | {"size": asked["page_size"]}
            | query.get("selectedItems", {})
        )
        return answer({"tasks": [{"id": 3}], "total": 7})

    seen: list[Any] = []
    studio.answers["/api/tasks"] = tasks
    client = LabelStudio(studio.url, KEY)
    assert client.unlabelled(1, 2, 5, set()) == ([{"id": 3}], 7)
    client.unlabelled(1, 2, 5, set(), version="v1", several=True)
    assert client.tasks_being_edited(1, [3, 4]) == {3}
    assert client.tasks_being_edited(1, []) == set(), "none is not all"
    nobody = {"total_annotations": 0, "cancelled_annotations": 0, "id": 2, "size": "5"}
    assert seen == [
        nobody,
        nobody | {"predictions_model_versions": ["v1"], "total_predictions": 1},
        {"draft_exists": True, "all": False, "included": [3, 4], "size": "100"},
    ]


def test_the_client_stores_and_counts_predictions(studio: Host) -> None:
    studio.answers["/api/projects/1/import/predictions"] = answer({"created": 2})
    studio.answers["/api/projects/1/model-versions"] = answer({"v1": 3})
    client = LabelStudio(studio.url, KEY)
    assert client.import_predictions(1, [{"task": 1}, {"task": 2}]) == 2
    assert client.import_predictions(1, []) == 0
    assert client.model_versions(1) == {"v1": 3}
    assert client.requests == 2


@pytest.mark.parametrize("status", [204, 404, 500])
def test_a_prediction_that_is_gone_already_is_no_mistake(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(self: LabelStudio, path: str) -> None:
        assert path == "/api/predictions/5"
        if status >= 400:
            raise LabelStudioRefusalError("Refused.", status, "")

    monkeypatch.setattr(LabelStudio, "delete", delete)
    client = LabelStudio("http://x.example", KEY)
    if status == 500:
        with pytest.raises(LabelStudioRefusalError):
            client.delete_prediction(5)
    else:
        client.delete_prediction(5)
