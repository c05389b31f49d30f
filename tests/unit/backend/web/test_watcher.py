from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backend.corrections.inbox import Inbox
from backend.domain.errors import QueueError
from backend.images.sharing import Sharing
from backend.serving.champions import Champions
from backend.settings import Settings
from backend.store.database import now
from backend.store.drafts.refreshes import LIVE
from backend.store.reconciliations import ReconciliationState
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.retrains import Retrain
from backend.store.store import Store
from backend.web import watcher as module
from backend.web.watcher import Watcher
from tests import factories
from tests.factories import correction, draft, saved, settings
from tests.fakes import Model
from training.captioner import checkpoint
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

    def enqueue_calibration(self, project_id: int) -> str:
        self.jobs[f"calibrate-{project_id}"] = project_id
        return "job"

    def schedule_reconcile(self, project_id: int, at: datetime) -> str:
        self.jobs[f"reconcile-{project_id}"] = at
        return "job"

    def workers(self, name: str) -> int:
        return 2

    def enqueue_refresh(self, project_id: int, number: int) -> str:
        self.jobs[f"refresh-{project_id}-{number}"] = project_id
        return "job"


@dataclass
class WatchedServices:
    settings: Settings
    store: Store
    registry: Registry
    queue: Any
    inbox: Inbox
    sharing: Sharing
    champions: Champions
    reuse: Any = None


@pytest.fixture
def services(tmp_path: Path) -> WatchedServices:
    def load(checkpoint: Path, device: str) -> Any:
        if not checkpoint.exists():
            raise CheckpointError(f"There is no checkpoint {checkpoint}.")
        return Model(checkpoint.name)

    configured = settings(tmp_path, CAPTIONER_RETRAIN_EVERY="2", LABEL_STUDIO_URL="http://x.example:8080")
    store, queue = Store(configured.database_url), Queue()
    store.migrate()
    inbox = Inbox(store, queue, configured)  # type: ignore[arg-type]
    return WatchedServices(
        configured, store, Registry(store), queue, inbox, Sharing(configured, store), Champions(load=load)
    )


def promote(services: WatchedServices, name: str, project_id: int) -> Path:
    checkpoint = services.settings.data_dir / name
    services.registry.register(ModelVersion(name, checkpoint))
    services.registry.promote(project_id, name, reason="better", by="gate")
    return checkpoint


def test_a_promoted_champion_comes_to_serve(services: WatchedServices) -> None:
    promote(services, "starter", DEFAULT).mkdir()
    promote(services, "p1-v1", 1).mkdir()
    watcher = Watcher(services)
    watcher.load_champions()
    assert [services.champions.serving(project) for project in (1, 2)] == ["p1-v1", "starter"]
    services.registry.rollback(1)
    watcher.load_champions()
    assert services.champions.serving(1) == "starter"
    assert services.champions._models.keys() == {"starter"}


def test_the_old_champion_stays_while_the_new_one_cannot_be_loaded(
    services: WatchedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(services, "p1-v1", 1).mkdir()
    watcher = Watcher(services)
    watcher.load_champions()
    checkpoint = promote(services, "p1-v2", 1)
    for _ in range(2):
        watcher.load_champions()
        assert services.champions.serving(1) == "p1-v1"
    assert "There is no checkpoint" in services.champions.refused()[1]
    checkpoint.mkdir()
    watcher.load_champions()
    assert services.champions.serving(1) == "p1-v1", "loading is not tried again every second"
    monkeypatch.setattr(module, "RETRY_LOAD_SECONDS", 0)
    watcher.load_champions()
    assert services.champions.serving(1) == "p1-v2"


def test_a_champion_that_was_exchanged_with_its_checksums_does_not_serve(
    services: WatchedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_LOAD_SECONDS", 0)
    folder = factories.checkpoint(services.settings.data_dir / "p1-v1")
    config = (folder / "config.json").read_text()
    promote(services, "p1-v1", 1)
    (folder / "config.json").write_text(config.replace("1.0", "6.6"))
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in checkpoint.FILES}
    (folder / checkpoint.SUMS).write_text("".join(f"{known}  {name}\n" for name, known in sums.items()))
    watcher = Watcher(services)
    watcher.load_champions()
    assert services.champions.serving(1) is None
    assert "is not the one that was registered: its files have changed since" in services.champions.refused()[1]
    (folder / "config.json").write_text(config)
    (folder / checkpoint.SUMS).unlink()
    watcher.load_champions()
    assert services.champions.serving(1) == "p1-v1"


def test_pending_retrains_are_queued_from_sql(services: WatchedServices) -> None:
    watcher = Watcher(services)
    services.store.record(saved(correction(1), correction(2)))  # the process died before it could queue anything
    watcher.queue_retrains()
    [retrain] = services.store.queued_retrains()
    job = f"retrain-{retrain.snapshot}"
    assert services.queue.jobs.keys() == {f"{job}-1"}
    services.queue.jobs.clear()  # Redis was emptied
    watcher.queue_retrains()
    assert services.queue.jobs.keys() == {f"{job}-1"}
    assert services.store.claim_retrain(retrain.id)
    services.queue.jobs.clear()
    watcher.queue_retrains()
    assert not services.queue.jobs, "somebody is at it"
    watcher.queue_retrains(stale_after_seconds=0)
    assert services.queue.jobs.keys() == {f"{job}-2"}


def test_where_nothing_is_due_nothing_is_written(services: WatchedServices, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"LABEL_STUDIO_URL": "http://x.example:8080", "LABEL_STUDIO_API_KEY": "k"}
    services.settings = settings(services.settings.data_dir, **given)
    services.store.record(saved(correction(1)))
    promote(services, "p1-v1", 1).mkdir()
    opened: list[int] = []
    writing = Store.writing

    def noted(store: Store, project_id: int, durable: bool = True) -> Any:
        opened.append(project_id)
        return writing(store, project_id, durable)

    monkeypatch.setattr(Store, "writing", noted)
    watcher = Watcher(services)
    for step in (watcher.load_champions, watcher.queue_retrains, watcher.queue_refreshes, watcher.schedule_comparisons):
        step()
    assert opened == []
    services.inbox.queue_due(1, asked=True)
    assert opened == [1]
    assert services.store.queued_retrains()


def test_comparing_needs_an_api_key(services: WatchedServices) -> None:
    services.store.save_project(4, "<View/>")
    Watcher(services).schedule_comparisons()
    assert not services.queue.jobs
    services.settings = settings(
        services.settings.data_dir, LABEL_STUDIO_URL="http://x.example:8080", LABEL_STUDIO_API_KEY="k"
    )
    Watcher(services).schedule_comparisons()
    assert services.queue.jobs.keys() == {"reconcile-4"}


def test_when_a_project_is_compared_again_is_known_from_sql(services: WatchedServices) -> None:
    given = {"LABEL_STUDIO_URL": "http://x.example:8080", "LABEL_STUDIO_API_KEY": "k"}
    services.settings = settings(services.settings.data_dir, CAPTIONER_RECONCILE_SECONDS="60", **given)
    services.store.save_project(4, "<View/>")
    Watcher(services).schedule_comparisons()
    assert services.queue.jobs["reconcile-4"] <= now(), "it never has been"
    compared_at = now() - timedelta(seconds=20)
    services.store.save_reconciliation(ReconciliationState(4, compared_at=compared_at))
    services.queue.jobs.clear()  # Redis was emptied
    Watcher(services).schedule_comparisons()
    assert services.queue.jobs == {"reconcile-4": compared_at + timedelta(seconds=60)}
    services.store.save_failure(4, "Label Studio cannot be reached.")
    Watcher(services).schedule_comparisons()
    assert services.queue.jobs["reconcile-4"] > now() + timedelta(seconds=50), "it is not asked over and over"


def test_drafts_are_made_anew_when_another_version_has_come_to_serve(services: WatchedServices) -> None:
    services.store.save_project(1, "<View/>")
    services.store.save_project(2, "<View/>")
    promote(services, "p1-v1", 1)
    Watcher(services).queue_refreshes()
    assert not services.queue.jobs, "without an API key nobody can be asked"
    given = {"LABEL_STUDIO_URL": "http://x.example:8080", "LABEL_STUDIO_API_KEY": "k"}
    services.settings = settings(services.settings.data_dir, **given)
    Watcher(services).queue_refreshes()
    assert services.queue.jobs.keys() == {"refresh-1-1"}
    services.store.begin_job(1)
    claimed = services.store.claim_refresh(1)
    assert claimed
    services.queue.jobs.clear()  # Redis was emptied
    Watcher(services).queue_refreshes()
    assert not services.queue.jobs, "somebody is at it"
    lease = claimed.lease
    services.store.save_refresh(1, lease, version="p1-v1", heartbeat_at=None)
    Watcher(services).queue_refreshes()
    assert not services.queue.jobs
    services.store.save_refresh(1, lease, mode=LIVE, due_at=now() - timedelta(minutes=11))
    Watcher(services).queue_refreshes()
    assert not services.queue.jobs
    services.store.add_drafts(1, [draft(1, "p1-v1")])
    Watcher(services).queue_refreshes()
    assert services.queue.jobs.keys() == {"refresh-1-2"}, "Label Studio may hold two answers"
    services.queue.jobs.clear()
    promote(services, "starter", DEFAULT)
    services.registry.rollback(1)
    Watcher(services).queue_refreshes()
    assert services.queue.jobs.keys() == {"refresh-1-2", "refresh-2-1"}, "the default champion serves both"


def test_what_loads_a_champion_is_imported_before_there_is_one(
    services: WatchedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = threading.Event()
    monkeypatch.setattr(services.champions, "prepare", prepared.set)
    watcher = Watcher(services)
    watcher.start()
    try:
        assert watcher.loaded.wait(20)
        assert prepared.wait(20)
    finally:
        watcher.stop()


def test_the_thread_lives_on_whatever_happens(services: WatchedServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHAMPION_SECONDS", 0.01)
    monkeypatch.setattr(module, "PENDING_SECONDS", 0.0)
    services.store.record(saved(correction(1), correction(2)))
    services.queue.down = True
    looks, queued = threading.Event(), threading.Event()
    champions, enqueue = services.registry.champions, services.queue.enqueue_retrain

    def broken() -> dict[int, str]:
        if not looks.is_set():
            looks.set()
            raise OSError("the disk is on fire")
        services.queue.down = False
        return champions()

    def noted(retrain: Retrain) -> str:
        found = enqueue(retrain)
        queued.set()
        return str(found)

    monkeypatch.setattr(services.registry, "champions", broken)
    monkeypatch.setattr(services.queue, "enqueue_retrain", noted)
    watcher = Watcher(services)
    watcher.start()
    try:
        assert queued.wait(20)
    finally:
        watcher.stop()
    assert len(services.queue.jobs) == 1


def test_mlflow_is_told_where_it_is_set_up(
    services: WatchedServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.retraining.tracking.queueing.check", lambda: None)
    services.settings = settings(tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    services.store.record(saved(correction(1)))
    told = threading.Event()
    monkeypatch.setattr(services.queue, "enqueue_tracking", lambda project_id, state: told.set(), raising=False)
    watcher = Watcher(services)
    watcher.start()
    try:
        assert told.wait(20)
    finally:
        watcher.stop()


def test_scores_are_calibrated_where_the_corrections_have_grown_by_a_quarter(services: WatchedServices) -> None:
    watcher, store, jobs = Watcher(services), services.store, services.queue.jobs

    def answer(first: int, end: int, signals: dict[str, float] | None) -> None:
        drafts = [draft(number, "v1", "a dot", signals=signals) for number in range(first, end)]
        store.add_drafts(1, drafts)
        store.record(saved(*(correction(number, "a dot") for number in range(first, end))))
        jobs.clear()
        watcher.queue_calibrations()

    answer(1, 100, None)
    answer(101, 150, {"margin": 0.5})
    assert jobs == {}, "those of an earlier release have no signals"
    answer(150, 151, {"margin": 0.5})
    assert jobs == {"calibrate-1": 1}
    jobs.clear()
    watcher.queue_calibrations()
    assert jobs == {"calibrate-1": 1}, "Redis may have been emptied"
    store.add_calibration(1, store.revision(1), corrections=50, accepted=50, calibration=None, reliability=None)
    answer(151, 163, {"margin": 0.5})
    assert jobs == {}
    answer(163, 164, {"margin": 0.5})
    assert jobs == {"calibrate-1": 1}
