from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.retraining import heartbeat as module
from backend.retraining.heartbeat import Heartbeat, SupersededError
from backend.store.retrains import Retrain
from backend.store.store import Store
from tests.factories import correction, saved


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    store.record(saved(correction(1)))
    return store


@pytest.fixture
def running(store: Store) -> Retrain:
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    return claimed


def progress(store: Store) -> dict[str, object]:
    """What was said of how far it is, but for the time."""
    return {name: value for name, value in store.retrains(1)[0].progress.items() if name != "phase_seconds"}


def test_a_new_phase_is_told_at_once_and_steps_at_the_next_beat(store: Store, running: Retrain) -> None:
    heartbeat = Heartbeat(store, running)
    heartbeat.report("collect", step=1)
    heartbeat.report("collect", step=2)
    assert progress(store) == {"phase": "collect", "step": 1}
    heartbeat.report("train", epoch=1)
    assert progress(store) == {"phase": "train", "epoch": 1}


def test_a_phase_is_timed_from_its_beginning(store: Store, running: Retrain, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    heartbeat = Heartbeat(store, running)
    heartbeat.report("collect")
    clock[0] = 12.5
    heartbeat.report("collect", step=2)
    heartbeat.renew()
    assert store.retrains(1)[0].progress == {"phase": "collect", "step": 2, "phase_seconds": 2.5}
    heartbeat.report("train", step=1)
    assert store.retrains(1)[0].progress == {"phase": "train", "step": 1, "phase_seconds": 0.0}


def test_the_heart_beats_while_the_main_thread_is_busy(
    store: Store, running: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.store.lease.RENEW_SECONDS", 0.01)
    with Heartbeat(store, running) as heartbeat:
        heartbeat.report("train", step=1)
        heartbeat.report("train", step=2)
        while progress(store) != {"phase": "train", "step": 2}:
            pass  # the test's time limit ends it
        first = store.retrains(1)[0].heartbeat_at
        while store.retrains(1)[0].heartbeat_at == first:
            pass


@pytest.mark.parametrize("by", ["another process", "a person"])
def test_who_was_superseded_or_cancelled_is_told_to_stop(
    store: Store, running: Retrain, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr("backend.store.lease.RENEW_SECONDS", 0.01)
    with Heartbeat(store, running) as heartbeat:
        heartbeat.report("train", step=1)
        if by == "a person":
            assert store.cancel_retrain(1)
        else:
            assert store.claim_retrain(running.id, stale_after_seconds=0)
        with pytest.raises(SupersededError):
            heartbeat.renew()
        for step in itertools.count():  # until the next beat has noticed; the test's time limit ends it
            try:
                heartbeat.report("train", step=step)
            except SupersededError:
                break
    assert progress(store) == ({"phase": "train", "step": 1} if by == "a person" else {})
