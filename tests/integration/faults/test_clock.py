"""The clock of the machine was a day ahead when something was noted, and has been set back since.

Whatever waits for a time waits no longer than it would have without that day.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from rq.job import Job
from rq.serializers import JSONSerializer

from backend.corrections.reconcile import is_complete_due, reconcile, reconcile_if_possible
from backend.queue import Queue
from backend.store.database import now
from backend.store.drafts.refreshes import DRAFTING, OPEN_SECONDS, WAITING
from backend.store.drafts.selections import Order
from backend.store.store import Store
from backend.web.watcher import Watcher
from tests.factories import correction, saved, settings
from tests.unit.backend.corrections.test_reconcile import Studio, listed

Shift = Callable[[int], None]


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> Shift:
    """Sets the clock of this machine so many days ahead."""

    def shifted(days: int) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("backend.") and hasattr(module, "now"):
                monkeypatch.setattr(module, "now", lambda: now() + timedelta(days=days))

    return shifted


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    store.record(saved(correction(1), correction(2)))
    return store


def test_the_lease_of_a_dead_process_ends(store: Store, shift: Shift) -> None:
    shift(1)
    retrain = store.request_retrain(1, asked=True, every=50)
    assert retrain
    assert store.claim_retrain(retrain.id)
    refresh = store.claim_refresh(1)
    assert refresh
    assert store.add_chunk(refresh, None, 10, 10, 10)
    shift(0)
    assert [each.id for each in store.stale_retrains()] == [retrain.id]
    assert store.claim_retrain(retrain.id)
    assert store.claim_refresh(1)
    assert store.claim_chunk(1)


def test_the_lease_of_a_living_process_stays(store: Store, shift: Shift) -> None:
    retrain = store.request_retrain(1, asked=True, every=50)
    assert retrain
    claimed = store.claim_retrain(retrain.id)
    assert claimed
    for days in (1, 0):
        shift(days)
        assert store.renew_retrain(claimed, {"phase": "train"})
        assert store.stale_retrains() == []


def test_what_was_postponed_is_due(store: Store, shift: Shift) -> None:
    shift(1)
    retrain = store.request_retrain(1, asked=True, every=50)
    assert retrain
    claimed = store.claim_retrain(retrain.id)
    assert claimed
    store.postpone_retrain(claimed, "The disk is full.")
    store.order_selection(1, Order("random", 1))
    store.postpone_selection(1)
    refresh = store.claim_refresh(1)
    assert refresh
    store.fail_refresh(1, refresh.lease, "v1", "Label Studio is down.")
    store.save_refresh(1, refresh.lease, heartbeat_at=None, version="v1", state=DRAFTING)
    assert not store.retrains(1)[0].due
    assert not store.selection_is_due(1)
    assert not store.refresh_state(1).is_due("v1", 2)
    shift(0)
    assert store.retrains(1)[0].due
    assert store.selection_is_due(1)
    assert store.refresh_state(1).is_due("v1", 2)
    later = now() + timedelta(days=1, seconds=OPEN_SECONDS)
    store.save_refresh(1, refresh.lease, failure=None, state=WAITING, due_at=later)
    assert store.refresh_state(1).is_due("v1", 2)


def test_the_next_comparison_comes_in_time_and_is_whole(
    store: Store, shift: Shift, tmp_path: Path, redis_url: str
) -> None:
    configured = settings(tmp_path, LABEL_STUDIO_URL="http://127.0.0.1:1", LABEL_STUDIO_API_KEY="0" * 40)
    queue = Queue(redis_url)
    services: Any = SimpleNamespace(settings=configured, store=store, queue=queue)
    studio: Any = Studio(listed(1), listed(2))
    shift(1)
    reconcile(1, studio, store)
    Watcher(services).schedule_comparisons()
    shift(0)
    assert is_complete_due(configured, store, 1)
    store.record(saved(correction(1, "of the right time", second=1)))
    studio.tasks = [listed(1, "lost"), listed(2, "lost too", second=1), listed(3)]
    found = reconcile(1, studio, store, complete=False)
    assert found.repairs["created"] == 1, "its webhook was lost"
    assert {each.annotation_id: each.texts for each in store.corrections(1)}[2] == ("lost too",)

    shift(1)
    reconcile_if_possible(configured, store, 1)
    shift(0)
    Watcher(services).schedule_comparisons()
    job = Job.fetch("reconcile-1", connection=redis.Redis.from_url(redis_url), serializer=JSONSerializer)
    assert job.get_status() == "queued"
