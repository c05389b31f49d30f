from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backend import reconcile as module
from backend.errors import LabelStudioError
from backend.reconcile import reconcile, reconcile_if_possible
from backend.store import Store
from tests.factories import correction, saved, settings
from tests.fakes import Answer, host

CONFIG = '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'


class Studio:
    """What reconcile asks of Label Studio's client."""

    def __init__(self, *exports: list[Any], label_config: str = CONFIG) -> None:
        self.exports, self.label_config = list(exports), label_config

    def project(self, project_id: int) -> dict[str, Any]:
        return {"id": project_id, "label_config": self.label_config}

    def export(self, project_id: int) -> list[Any]:
        return self.exports.pop(0)


def exported(id: int, text: str = "a red dot", second: int = 0, **fields: Any) -> dict[str, Any]:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    value = {"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": [text]}}
    annotation = {"id": id, "result": [value], "updated_at": moment.isoformat(), "was_cancelled": False, **fields}
    return {"id": id, "data": {"image": f"/data/upload/1/{id}.jpg"}, "annotations": [annotation]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


@pytest.fixture
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all that is recorded had been recorded a while ago."""
    monkeypatch.setattr(module, "now", lambda: datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.usefixtures("_later")
def test_tasks_deleted_without_an_event_are_forgotten(store: Store) -> None:
    studio = Studio([exported(1), exported(2)], [exported(2)])
    reconcile(1, studio, store)  # type: ignore[arg-type]
    assert store.counts(1).tasks == 2
    reconcile(1, studio, store)  # type: ignore[arg-type]
    assert store.counts(1).tasks == 1
    assert store.get_task(1, 1) is None


@pytest.mark.usefixtures("_later")
def test_a_label_studio_begun_anew_under_the_same_ids_loses_nothing(store: Store) -> None:
    before, after = "2026-01-01T00:00:00Z", (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    first = exported(1, "a red dot", created_at=before) | {"created_at": before}
    second = exported(1, "a blue square", second=10**9, created_at=after) | {"created_at": after}
    second["data"] = {"image": "/data/upload/1/another.jpg"}
    reconcile(1, Studio([first]), store)  # type: ignore[arg-type]
    reconcile(1, Studio([]), store)  # type: ignore[arg-type]
    assert store.corrections(1) == []
    reconcile(1, Studio([first]), store)  # type: ignore[arg-type]
    assert store.corrections(1) == [], "the same one is dead for good"
    assert reconcile(1, Studio([second]), store).new == 1  # type: ignore[arg-type]
    assert [(row.texts, row.image) for row in store.corrections(1)] == [
        (("a blue square",), "/data/upload/1/another.jpg")
    ]


def test_captions_a_project_already_has_count(store: Store) -> None:
    found = reconcile(1, Studio([exported(1), exported(2, "a blue dot")]), store)  # type: ignore[arg-type]
    assert str(found) == (
        "Project 1 has 2 tasks and 2 annotations in Label Studio; "
        "2 captions were new here and 0 had been deleted there."
    )
    assert [(row.texts, row.image) for row in store.corrections(1)] == [
        (("a red dot",), "/data/upload/1/1.jpg"),
        (("a blue dot",), "/data/upload/1/2.jpg"),
    ]
    assert store.request_retrain(1, asked=False, every=2) is not None


@pytest.mark.usefixtures("_later")
def test_lost_events_are_made_up_for(store: Store) -> None:
    studio: Any = Studio([exported(1), exported(2), exported(3)], [exported(1), exported(3, "changed", 5), exported(4)])
    reconcile(1, studio, store)
    found = reconcile(1, studio, store)
    assert (found.new, found.deleted) == (2, 1)
    assert {row.annotation_id: row.texts[0] for row in store.corrections(1)} == {
        1: "a red dot",
        3: "changed",
        4: "a red dot",
    }


def test_an_annotation_saved_while_the_export_was_made_is_not_taken_for_deleted(store: Store) -> None:
    store.record(saved(correction(7)))
    assert reconcile(1, Studio([]), store).deleted == 0  # type: ignore[arg-type]
    assert len(store.corrections(1)) == 1


@pytest.mark.usefixtures("_later")
def test_comparing_again_changes_nothing(store: Store) -> None:
    studio: Any = Studio([exported(1), exported(2)], [exported(1), exported(2)])
    reconcile(1, studio, store)
    before = store.corrections(1)
    found = reconcile(1, studio, store)
    assert (found.new, found.deleted, store.corrections(1)) == (0, 0, before)


def test_a_labelling_config_without_a_caption_box_is_said_so(store: Store) -> None:
    with pytest.raises(LabelStudioError, match="captions of project 1 cannot be read: The labelling config has no <Im"):
        reconcile(1, Studio([], label_config="<View/>"), store)  # type: ignore[arg-type]


def test_label_studio_being_away_is_no_reason_to_stop(store: Store, tmp_path: Path) -> None:
    with host() as studio:
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY="0" * 40)
        reconcile_if_possible(configured, store, 1)
        assert studio.paths() == ["/api/projects/1"]
        studio.answers["/api/projects/1"] = Answer(body=json.dumps({"label_config": CONFIG}).encode())
        studio.answers["/api/projects/1/export"] = Answer(body=json.dumps([exported(1)]).encode())
        reconcile_if_possible(configured, store, 1)
    assert len(store.corrections(1)) == 1
    reconcile_if_possible(settings(tmp_path), store, 1)  # without an API key nobody can be asked
