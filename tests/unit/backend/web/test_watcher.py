from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backend.corrections.inbox import Inbox
from backend.domain.errors import QueueError
from backend.serving.champions import Champions
from backend.settings import Settings
from backend.store.database import now
from backend.store.reconciliations import Reconciled
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.retrains import Retrain
from backend.store.store import Store
from backend.web import watcher as module
from backend.web.watcher import Watcher
from tests.factories import correction, saved, settings
from tests.fakes import Model
from training.errors import CheckpointError


class Queue:
    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.down = False

    def enqueue_retrain(self, retrain: Retrain) -> str:
        if self.down:
            raise QueueError("Redis cannot be reached.")
        self.jobs[f"retrain-{retrain.snapshot}-{retrain.attempt + 1}"] = retrain.id
        return "job"

    def schedule_reconcile(self, project_id: int, at: datetime) -> str:
        self.jobs[f"reconcile-{project_id}"] = at
        return "job"

    def enqueue_refresh(self, project_id: int, part: int) -> str:
        self.jobs[f"refresh-{project_id}-{part}"] = project_id
        return "job"


@dataclass
class Rooms:
    settings: Settings
    store: Store
    registry: Registry
    queue: Any
    inbox: Inbox
    champions: Champions


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    def load(checkpoint: Path, device: str) -> Any:
        if not checkpoint.exists():
            raise CheckpointError(f"There is no checkpoint {checkpoint}.")
        return Model(checkpoint.name)

    configured = settings(tmp_path, CAPTIONER_RETRAIN_EVERY="2", LABEL_STUDIO_URL="http://x.example:8080")
    store, queue = Store(configured.database_url), Queue()
    store.migrate()
    inbox = Inbox(store, queue, configured)  # type: ignore[arg-type]
    return Rooms(configured, store, Registry(store), queue, inbox, Champions(load=load))


def promote(rooms: Rooms, name: str, project_id: int) -> Path:
    checkpoint = rooms.settings.data_dir / name
    rooms.registry.register(ModelVersion(name, checkpoint))
    rooms.registry.promote(project_id, name, reason="better", by="gate")
    return checkpoint


def test_a_promoted_champion_comes_to_serve(rooms: Rooms) -> None:
    promote(rooms, "starter", DEFAULT).mkdir()
    promote(rooms, "p1-v1", 1).mkdir()
    watcher = Watcher(rooms)
    watcher.look()
    assert [rooms.champions.serving(project) for project in (1, 2)] == ["p1-v1", "starter"]
    rooms.registry.rollback(1)
    watcher.look()
    assert rooms.champions.serving(1) == "starter"
    assert rooms.champions.loaded() == {"starter"}


def test_the_old_champion_stays_while_the_new_one_cannot_be_loaded(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(rooms, "p1-v1", 1).mkdir()
    watcher = Watcher(rooms)
    watcher.look()
    checkpoint = promote(rooms, "p1-v2", 1)
    for _ in range(2):
        watcher.look()
        assert rooms.champions.serving(1) == "p1-v1"
    assert "There is no checkpoint" in rooms.champions.refused()[1]
    checkpoint.mkdir()
    watcher.look()
    assert rooms.champions.serving(1) == "p1-v1", "loading is not tried again every second"
    monkeypatch.setattr(module, "RETRY_LOAD_SECONDS", 0)
    watcher.look()
    assert rooms.champions.serving(1) == "p1-v2"


def test_pending_retrains_are_queued_from_sql(rooms: Rooms) -> None:
    watcher = Watcher(rooms)
    rooms.store.record(saved(correction(1), correction(2)))  # the process died before it could queue anything
    watcher.sweep()
    [retrain] = rooms.store.queued_retrains()
    job = f"retrain-{retrain.snapshot}"
    assert rooms.queue.jobs.keys() == {f"{job}-1"}
    rooms.queue.jobs.clear()  # Redis was emptied
    watcher.sweep()
    assert rooms.queue.jobs.keys() == {f"{job}-1"}
    assert rooms.store.claim_retrain(retrain.id)
    rooms.queue.jobs.clear()
    watcher.sweep()
    assert not rooms.queue.jobs, "somebody is at it"
    watcher.sweep(stale_after_seconds=0)
    assert rooms.queue.jobs.keys() == {f"{job}-2"}


def test_comparing_needs_an_api_key(rooms: Rooms) -> None:
    rooms.store.save_project(4, "<View/>")
    Watcher(rooms).schedule()
    assert not rooms.queue.jobs
    rooms.settings = settings(
        rooms.settings.data_dir, LABEL_STUDIO_URL="http://x.example:8080", LABEL_STUDIO_API_KEY="k"
    )
    Watcher(rooms).schedule()
    assert rooms.queue.jobs.keys() == {"reconcile-4"}


def test_when_a_project_is_compared_again_is_known_from_sql(rooms: Rooms) -> None:
    given = {"LABEL_STUDIO_URL": "http://x.example:8080", "LABEL_STUDIO_API_KEY": "k"}
    rooms.settings = settings(rooms.settings.data_dir, CAPTIONER_RECONCILE_SECONDS="60", **given)
    rooms.store.save_project(4, "<View/>")
    Watcher(rooms).schedule()
    assert rooms.queue.jobs["reconcile-4"] <= now(), "it never has been"
    compared_at = now() - timedelta(seconds=20)
    rooms.store.save_reconciled(Reconciled(4, compared_at=compared_at))
    rooms.queue.jobs.clear()  # Redis was emptied
    Watcher(rooms).schedule()
    assert rooms.queue.jobs == {"reconcile-4": compared_at + timedelta(seconds=60)}
    rooms.store.save_failure(4, "Label Studio cannot be reached.")
    Watcher(rooms).schedule()
    assert rooms.queue.jobs["reconcile-4"] > now() + timedelta(seconds=50), "it is not asked over and over"


def test_drafts_are_made_anew_when_another_version_has_come_to_serve(rooms: Rooms) -> None:
    rooms.store.save_project(1, "<View/>")
    rooms.store.save_project(2, "<View/>")
    promote(rooms, "p1-v1", 1)
    Watcher(rooms).refresh()
    assert not rooms.queue.jobs, "without an API key nobody can be asked"
    given = {"LABEL_STUDIO_URL": "http://x.example:8080", "LABEL_STUDIO_API_KEY": "k"}
    rooms.settings = settings(rooms.settings.data_dir, **given)
    Watcher(rooms).refresh()
    assert rooms.queue.jobs.keys() == {"refresh-1-1"}
    claimed = rooms.store.claim_refresh(1)
    assert claimed
    rooms.queue.jobs.clear()  # Redis was emptied
    Watcher(rooms).refresh()
    assert not rooms.queue.jobs, "somebody is at it"
    rooms.store.save_refresh(replace(claimed, version="p1-v1", beat_at=None))
    Watcher(rooms).refresh()
    assert not rooms.queue.jobs
    promote(rooms, "starter", DEFAULT)
    rooms.registry.rollback(1)
    Watcher(rooms).refresh()
    assert rooms.queue.jobs.keys() == {"refresh-1-2", "refresh-2-1"}, "the default champion serves both"


def test_the_thread_lives_on_whatever_happens(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.0)
    rooms.store.record(saved(correction(1), correction(2)))
    rooms.queue.down = True
    looks, queued = threading.Event(), threading.Event()
    champions, enqueue = rooms.registry.champions, rooms.queue.enqueue_retrain

    def broken() -> dict[int, str]:
        if not looks.is_set():
            looks.set()
            raise OSError("the disk is on fire")
        rooms.queue.down = False
        return champions()

    def noted(retrain: Retrain) -> str:
        found = enqueue(retrain)
        queued.set()
        return str(found)

    monkeypatch.setattr(rooms.registry, "champions", broken)
    monkeypatch.setattr(rooms.queue, "enqueue_retrain", noted)
    watcher = Watcher(rooms)
    watcher.start()
    try:
        assert queued.wait(20)
    finally:
        watcher.stop()
    assert len(rooms.queue.jobs) == 1
