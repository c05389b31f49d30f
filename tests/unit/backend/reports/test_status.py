from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backend.reports import progress
from backend.reports.status import report, text
from backend.settings import Settings
from backend.store.database import now
from backend.store.drafts.refreshes import DRAFTING, EVERY, LIVE, STORED, WAITING
from backend.store.reconciliations import ReconciliationState
from backend.store.registry import ModelVersion, Registry
from backend.store.retrains import DONE, FAILED
from backend.store.store import Store
from tests.factories import correction, draft, saved, settings


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return settings(tmp_path, CAPTIONER_RETRAIN_EVERY="3", CAPTIONER_PORT="1", REDIS_URL="redis://127.0.0.1:1/0")


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two reports tell of the same moment, however long the first takes."""
    moment = now()
    monkeypatch.setattr(progress, "now", lambda: moment)


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
    store.finish_retrain(claimed, state=FAILED, outcome="The weights cannot be had.")
    store.record(saved(correction(4)))
    assert store.request_retrain(1, asked=False, every=3) is None
    told = text(report(here))
    assert "2 more corrections until the first model, or Start Training in Label Studio's settings (4 are new)" in told
    [last] = [line for line in told.splitlines() if line.startswith("  last ")]
    assert last in train_status(store), "it speaks as `captioner train-status` does"
    assert last.endswith(" after 0 s: The weights cannot be had.")


def test_it_tells_how_drafts_changed_and_what_corrections_taught(here: Settings, store: Store) -> None:
    registry = Registry(store)
    registry.register(ModelVersion("p1-v1", here.data_dir, project_id=1))
    registry.promote(1, "p1-v1", reason="better", by="gate")
    assert "edits" not in text(report(here))
    store.add_drafts(1, [draft(4, "starter", "a blue dot"), draft(5, "starter", "a dot")])
    store.record(saved(correction(4, "a red square"), correction(5, "a dot")))
    claimed = store.claim_retrain(requested.id) if (requested := store.request_retrain(1, False, 3)) else None
    assert claimed is not None
    store.freeze_retrain(claimed)
    store.finish_retrain(claimed, state=DONE, outcome="p1-v1 is promoted.", version="p1-v1")
    store.add_drafts(1, [draft(6, "p1-v1", "a red dot")])
    store.record(saved(correction(6, "a red dot")))
    found = report(here)
    [project] = found["projects"]
    assert project["taught"] == {"version": "p1-v1", "corrections": 5, "words": ["red"]}
    told = text(found)
    assert "6 usable (2 drafts accepted unchanged)" in told
    assert "  edits        drafts of  corrected  kept  words changed a word\n" in told
    assert "               starter            2   50%                  0.40\n" in told
    assert "               p1-v1              1  100%                  0.00\n" in told
    assert (
        "  taught       the last 5 corrections that it learned from: drafts of p1-v1 are the first with red\n" in told
    )


def test_where_only_start_training_begins_a_retrain_it_says_so(here: Settings, store: Store) -> None:
    asking = settings(here.data_dir, CAPTIONER_RETRAIN_EVERY="0", CAPTIONER_PORT="1", REDIS_URL=here.redis_url or "")
    found = report(asking)
    assert found["projects"][0]["retrain_in"] is None
    assert "  retrain      Start Training in Label Studio's settings begins the first model (3 are new)" in text(found)


def test_a_postponed_retrain_tells_why_and_until_when(here: Settings, store: Store) -> None:
    requested = store.request_retrain(1, asked=False, every=3)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    store.postpone_retrain(claimed, "Label Studio is away.")
    due_at = str(store.retrains(1)[0].due_at)[:19]
    line = f"is queued: it waits until {due_at} UTC: Label Studio is away."
    assert line in text(report(here))
    assert line in train_status(store)


def test_it_names_tasks_that_cannot_be_read(here: Settings, store: Store) -> None:
    store.save_reconciliation(ReconciliationState(1, unreadable=[7]))
    assert "  left out     Task 7 cannot be read from Label Studio" in text(report(here))
    store.save_reconciliation(ReconciliationState(1, unreadable=list(range(1, 9))))
    assert "  left out     Tasks 1, 2, 3, 4, 5 and 3 more cannot be read" in text(report(here))


def test_it_tells_where_drafts_come_from_and_how_far_they_are(here: Settings, store: Store) -> None:
    assert "refresh" not in text(report(here))
    store.order_refresh(
        1, mode=LIVE, wanted=STORED, version="v1", state=DRAFTING, checked=4, total=9, stored=3, failed=1
    )
    told = text(report(here))
    assert (
        "  drafts       live: Label Studio asks for each task it opens; stored mode begins when all are stored\n"
        in told
    )
    assert (
        "  refresh      drafted 4 of 9, no worker is at it; 3 drafts stored by v1, 1 failed (0 requests, 0.0 s)" in told
    )
    due_at = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    store.order_refresh(
        1, mode=STORED, wanted=None, state=WAITING, deleted=2, being_edited=1, due_at=due_at, stopped=True
    )
    store.order_refresh(1, failure="Label Studio is away.")
    told = text(report(here))
    assert "  drafts       stored in Label Studio\n" in told
    assert "  refresh      stopped (`captioner refresh` continues it): 3 drafts stored by v1, 1 failed, " in told
    assert "2 old drafts deleted, 1 task being edited left alone; the rest at 2026-01-01 12:30 (" in told
    assert "  not drafted  Label Studio is away." in told


def test_it_tells_how_fast_a_project_is_drafted_and_when_that_ends(here: Settings, store: Store) -> None:
    counts = {"checked": 3200, "stored": 3200, "total": 10000, "seconds": 160.0, "requests": 50}
    listed = store.order_refresh(1, mode=LIVE, wanted=EVERY, version="v1", state=DRAFTING, checked_to=3200, **counts)
    for last in (3450, 3700):
        assert store.add_chunk(replace(listed, checked_to=last - 250), None, last, 250, 6800)
    store.order_refresh(2, version="v1", state=DRAFTING)
    store.order_refresh(1, total=10000)
    told = report(here)["projects"][0]["drafting"]
    assert (told["workers"], told["rate"]) == (0, None), "who was told to stop is not at it"
    for _ in range(2):
        assert store.claim_chunk(1)
    told = report(here)["projects"][0]["drafting"]
    assert (told["workers"], told["rate"], told["left_seconds"]) == (2, 40.0, 170.0)
    assert "  drafts       live: Label Studio asks for each task it opens; every unlabelled task" in text(report(here))
    assert "drafted 3,200 of 10,000, 40 a second, about 3 min left, 2 workers; 3200 drafts stored" in text(report(here))


def test_what_a_running_retrain_says_has_no_needless_digits(here: Settings, store: Store) -> None:
    requested = store.request_retrain(1, asked=False, every=3)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    store.renew_retrain(claimed, {"phase": "train", "epoch": 2, "epochs": 9, "loss": 2.123456789012345})
    told = text(report(here)).splitlines()
    assert f"  retrain      {claimed.snapshot} runs: training, epoch 2 of 9, loss 2.123" in told
    assert [line for line in train_status(store).splitlines()[1:] if line not in told] == []


def test_one_of_anything_is_told_in_the_singular(here: Settings) -> None:
    store = Store(here.database_url)
    store.migrate()
    store.record(saved(correction(1)))
    store.add_drafts(1, [draft(1)])
    state = store.reconciliation_state(1)
    compared = {"completed_at": now(), "compared_at": now(), "completed_tasks": 1, "completed_requests": 1}
    store.save_reconciliation(replace(state, **compared, repaired=1))
    store.order_refresh(1, mode=LIVE, version="v1", state=DRAFTING, checked=1, total=1, stored=1, requests=1)
    told = text(report(here))
    assert not re.findall(r"(?<![\d.])1 (\w+ )?(tasks|drafts|requests|corrections|changes|are)\b", told), told
    assert told.count("1 ") >= 8, told


def train_status(store: Store) -> str:
    return progress.text(progress.report(store))


def test_it_tells_what_the_score_means_and_how_far_it_can_be_trusted(here: Settings, store: Store) -> None:
    first = report(here)
    assert first["projects"][0]["score"]["calibrated"] is False
    assert (
        "  score        how likely the model finds its words; from 50 corrections on, of which 5 accept their draft "
        "and 5 do not, the chance that a draft is accepted (0 so far)\n"
    ) in text(first)
    store.add_calibration(1, 1, corrections=60, accepted=3, calibration=None, reliability=None)
    assert "(0 so far, 3 of them accepted)" in text(report(here))
    measured = {"ece": 0.0321, "brier": 0.181, "base_rate": 0.35, "base_brier": 0.2275, "auroc": 0.734, "bins": []}
    store.add_calibration(1, 2, corrections=120, accepted=42, calibration={"bias": 0.0}, reliability=measured)
    found = report(here)
    assert found["projects"][0]["score"]["reliability"] == measured
    assert (
        "  score        the chance that a draft is accepted with at most one word changed, "
        "learned from 120 corrections (35% were)\n"
        "               of those left out: wrong by 0.032 on average (ECE), "
        "Brier score 0.181 (0.228 without signals), AUROC 0.73\n"
    ) in text(found)
