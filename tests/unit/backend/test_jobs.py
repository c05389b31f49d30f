"""Jobs on a full disk."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from backend import jobs
from backend.domain.errors import DatabaseError, UnreachableImageError
from backend.retraining.attempt import Retraining
from backend.store.database import now
from backend.store.retrains import FAILED, MAX_POSTPONED, QUEUED, Retrain
from backend.store.store import Store
from tests.factories import correction, saved, settings
from training.errors import CheckpointError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    store.record(saved(correction()))
    return store


def attempted(store: Store, data: Path) -> Retrain:
    """The retrain after one more attempt."""
    requested = store.request_retrain(1, asked=True, every=50) or store.retrains(1)[0]
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    jobs._attempt(settings(data), store, claimed)
    return store.retrains(1)[0]


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None = None) -> None:
    def run(self: Retraining) -> tuple[str, str]:
        raise error from cause

    monkeypatch.setattr(Retraining, "run", run)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), None),
        (RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/1: file write failed"), None),
        (CheckpointError("The checkpoint cannot be written."), OSError(errno.ENOSPC, "No space left on device")),
        (DatabaseError("The database cannot be used: database or disk is full."), None),
    ],
)
def test_a_full_disk_postpones_a_retrain_whoever_writes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None
) -> None:
    failing(monkeypatch, error, cause)
    retrain = attempted(store, tmp_path)
    assert (retrain.state, retrain.postponed) == (QUEUED, 1)
    assert retrain.outcome == f"The disk with {tmp_path} is full: free some space."


def test_it_waits_as_long_as_the_disk_is_full(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    clock = now()
    for times in range(1, MAX_POSTPONED + 4):
        retrain = attempted(store, tmp_path)
        assert (retrain.state, retrain.postponed) == (QUEUED, times)
        assert retrain.due_at is not None
        assert 10 < (retrain.due_at - clock).total_seconds() < 1000
        clock = retrain.due_at
        monkeypatch.setattr("backend.store.retrains.clock", lambda connection, at=clock: at)


def test_another_error_ends_it(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, OSError(errno.EACCES, "Permission denied"))
    assert attempted(store, tmp_path).state == FAILED


def test_a_retrain_ends_with_the_calibration_of_scores(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, CheckpointError("The checkpoint cannot be read."))
    for name, value in settings(tmp_path).to_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    calibrated: list[int] = []
    monkeypatch.setattr(jobs.calibrating, "calibrate", lambda store, project_id: calibrated.append(project_id))
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested
    jobs.retrain(requested.id)
    assert store.retrains(1)[0].state == FAILED
    assert calibrated == [1]
    jobs.retrain(requested.id)
    assert calibrated == [1], "it has ended"


@pytest.mark.parametrize("job", [jobs.retrain, jobs.reconcile, jobs.refresh, jobs.calibrate])
def test_a_database_that_cannot_be_written_ends_a_job_with_one_sentence(
    job: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full() -> None:
        raise DatabaseError("The database x cannot be used: database or disk is full.")

    monkeypatch.setattr(jobs, "_opened", full)
    with caplog.at_level(logging.INFO):
        job(1)  # type: ignore[operator]
    assert caplog.messages == ["The job is postponed: The database x cannot be used: database or disk is full."]


def test_a_job_follows_what_other_machines_have_changed_and_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def follow(self: object) -> None:
        raise UnreachableImageError("The store is down.")

    monkeypatch.setattr("backend.images.sharing.Sharing.follow", follow)
    for name, value in settings(tmp_path, REDIS_URL="redis://127.0.0.1:1/0").to_env().items():
        monkeypatch.setenv(name, value)
    jobs.retrain(99)
    jobs.refresh(1)
    assert caplog.text.count("What other machines have changed is not fetched: The store is down.") == 2


def test_a_database_that_is_away_gives_a_retrain_back_to_the_next_attempt(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, DatabaseError("The database x cannot be used: the connection is closed."))
    retrain = attempted(store, tmp_path)
    assert (retrain.state, retrain.attempt, retrain.deaths, retrain.due) == (QUEUED, 1, 0, True)
    monkeypatch.setattr(jobs, "MOST_ATTEMPTS", 2)
    retrain = attempted(store, tmp_path)
    assert (retrain.state, retrain.attempt) == (FAILED, 2)
    assert retrain.outcome == "The database x cannot be used: the connection is closed."
