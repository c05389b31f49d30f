from __future__ import annotations

from pathlib import Path

import pytest

from backend.retrains import FAILED
from backend.settings import Settings
from backend.status import report, text
from backend.store import Store
from tests.factories import correction, saved, settings


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return settings(tmp_path, CAPTIONER_RETRAIN_EVERY="3", CAPTIONER_PORT="1", REDIS_URL="redis://127.0.0.1:1/0")


@pytest.fixture
def store(here: Settings) -> Store:
    store = Store(here.database_url)
    store.migrate()
    store.record(saved(*(correction(id) for id in (1, 2, 3))))
    return store


def test_after_a_failed_retrain_it_tells_when_the_next_one_really_begins(here: Settings, store: Store) -> None:
    requested = store.request_retrain(1, asked=False, every=3)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    store.finish_retrain(claimed.id, claimed.attempt, state=FAILED, outcome="The weights cannot be had.")
    store.record(saved(correction(4)))
    assert store.request_retrain(1, asked=False, every=3) is None
    told = text(report(here))
    assert "2 more corrections until the first model, or Start Training in Label Studio's settings (4 are new)" in told
    assert "last retrain failed: The weights cannot be had." in told


def test_a_postponed_retrain_tells_why_and_until_when(here: Settings, store: Store) -> None:
    requested = store.request_retrain(1, asked=False, every=3)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    store.postpone_retrain(claimed, "Label Studio is away.")
    due_at = str(store.retrains(1)[0].due_at)[:16]
    assert f"queued: waits until {due_at}: Label Studio is away." in text(report(here))
