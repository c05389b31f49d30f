from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backend.cli.main import main
from backend.reports import progress
from backend.store.retrains import DONE, Retrain
from backend.store.store import Store
from tests.factories import correction, saved, settings

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
TRAINING = {
    "phase": "train", "epoch": 3, "epochs": 10, "step": 5, "steps": 10, "loss": 2.34567, "seconds": 31.0,
    "images_at_once": None, "phase_seconds": 25.0,
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    return store


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    times = [BEGAN]
    monkeypatch.setattr("backend.store.retrains.clock", lambda connection: times[0])
    monkeypatch.setattr("backend.reports.progress.now", lambda: times[0])
    return times


def running(store: Store, said: dict[str, Any]) -> Retrain:
    store.record(saved(correction(1)))
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    assert store.renew_retrain(claimed, said)
    return claimed


def active(store: Store) -> dict[str, Any]:
    [project] = progress.report(store)["projects"]
    found = project["active"]
    assert isinstance(found, dict)
    return found


def told(store: Store) -> str:
    return progress.text(progress.report(store))


def test_a_training_is_reckoned_by_the_steps_of_all_its_epochs(store: Store, clock: list[datetime]) -> None:
    running(store, TRAINING)
    clock[0] += timedelta(seconds=4)
    found = active(store)
    assert (found["phase"], found["epoch"], found["epochs"], found["step"], found["steps"]) == ("train", 3, 10, 5, 10)
    assert (found["elapsed_seconds"], found["heard_seconds_ago"], found["lost"]) == (4.0, 4.0, False)
    assert found["phase_left_seconds"] == 25.0 * 75 / 25 - 4.0
    assert found["phase_ends_at"] == "2026-01-01 12:01:15 UTC"
    assert found["then"] == ["interpolate", "evaluate", "register"]
    assert (found["attempt"], found["deaths"], found["postponed"]) == (1, 0, 0)
    assert told(store).splitlines() == [
        "Project 1",
        "  retrain      1-1 runs: training, epoch 3 of 10, step 5 of 10, loss 2.346",
        "  time         started 4 s ago; this phase ends in about 71 s (2026-01-01 12:01:15 UTC)",
        "  next         interpolating with the champion's weights, evaluating champion and candidate, "
        "registering the version",
    ]


@pytest.mark.parametrize(
    ("said", "left", "then"),
    [
        ({}, None, "collect"),
        ({"phase": "compare", "phase_seconds": 9.0}, None, "collect"),
        ({"phase": "collect", "step": 0, "steps": 8, "phase_seconds": 9.0}, None, "train"),
        ({"phase": "collect", "step": 2, "steps": 8, "phase_seconds": 9.0}, 27.0, "train"),
        ({"phase": "collect", "step": 2, "steps": 8}, None, "train"),  # of a worker of before
        ({**TRAINING, "phase": "prepare", "epoch": 0, "loss": None, "step": 5}, 25.0, "train"),
        ({**TRAINING, "phase": "frozen"}, 75.0, "interpolate"),
        ({"phase": "evaluate", "step": 8, "steps": 8, "phase_seconds": 9.0}, None, "register"),  # not "0 s"
        ({"phase": "register", "phase_seconds": 0.0}, None, None),
        ({"phase": "of tomorrow", "phase_seconds": 0.0}, None, "collect"),
    ],
)
def test_an_estimate_is_of_the_phase_alone(
    store: Store, said: dict[str, Any], left: float | None, then: str | None
) -> None:
    running(store, said)
    found = active(store)
    assert found["phase_left_seconds"] == left
    assert found["then"][:1] == ([then] if then else [])
    assert ("cannot be estimated" in told(store)) == (left is None)


def test_memory_that_did_not_suffice_is_told(store: Store) -> None:
    running(store, {**TRAINING, "images_at_once": 8})
    assert "  memory       fits only 8 images at once: batches are split" in told(store)


def test_a_retrain_that_was_begun_more_than_once(store: Store, clock: list[datetime]) -> None:
    retrain = running(store, TRAINING)
    clock[0] += timedelta(seconds=31)
    assert active(store)["lost"]
    assert "1-1 runs: no heartbeat for 31 s; the next worker starts it again" in told(store)
    again = store.claim_retrain(retrain.id)
    assert again is not None
    assert "  attempts     2 so far: 1 died, 0 were postponed" in told(store)
    assert store.postpone_retrain(again, "Label Studio is away.")
    found = active(store)
    assert (found["state"], found["phase"], found["postponed"]) == ("queued", None, 1)
    assert "1-1 is queued: it waits until 2026-01-01 12:00:46 UTC: Label Studio is away." in told(store)


def test_without_an_active_one_the_last_is_told(store: Store, clock: list[datetime]) -> None:
    assert told(store) == progress.NO_PROJECT
    retrain = running(store, TRAINING)
    clock[0] += timedelta(minutes=3)
    store.finish_retrain(retrain, state=DONE, outcome="p1-v1 is promoted.", version="p1-v1")
    clock[0] += timedelta(hours=5)
    [project] = progress.report(store, 1)["projects"]
    assert project["active"] is None
    assert (project["last"]["version"], project["last"]["seconds"]) == ("p1-v1", 180.0)
    assert told(store).splitlines()[1:] == [
        "  retrain      none is queued or running",
        "  last         1-1, done 5 h ago after 3 min: p1-v1 is promoted.",
    ]
    assert progress.report(store, 9) == {
        "projects": [{"project": 9, "active": None, "last": None, "usual_seconds": None}]
    }


def test_the_command_tells_it(store: Store, tmp_path: Path) -> None:
    running(store, TRAINING)
    given = ["train-status", "--data-dir", str(tmp_path)]
    assert "training, epoch 3 of 10" in CliRunner().invoke(main, given).output
    found = json.loads(CliRunner().invoke(main, [*given, "--project", "1", "--json"]).output)
    assert found["projects"][0]["active"]["loss"] == 2.34567


def test_how_long_the_whole_takes_is_told_by_the_last_ones(store: Store, clock: list[datetime]) -> None:
    for minutes in (60, 4, 2, 3):
        retrain = running(store, {"phase": "train"})
        clock[0] += timedelta(minutes=minutes)
        store.finish_retrain(retrain, state=DONE, outcome="p1-v1 is promoted.", version="p1-v1")
        store.record(saved(correction(minutes)))
    retrain = running(store, {"phase": "collect"})
    clock[0] += timedelta(seconds=60)
    store.renew_retrain(retrain, {"phase": "collect"})
    assert (active(store)["left_seconds"], active(store)["phase_left_seconds"]) == (120.0, None)
    assert progress.report(store)["projects"][0]["usual_seconds"] == 180.0
    assert "               all of it in about 2 min (2026-01-01 " in told(store)
    clock[0] += timedelta(seconds=150)
    assert active(store)["left_seconds"] is None, "it takes longer"
