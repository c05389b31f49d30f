"""The jobs of a worker: retrain a project, compare it with Label Studio, refresh its drafts, calibrate its scores, tell
MLflow.

Arguments are JSON, settings come from the environment. A job may be killed at any moment and run again: SQL and the
snapshot show what it has done, and unfinished files are removed.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from backend.corrections.inbox import Inbox
from backend.corrections.reconcile import is_complete_due, reconcile_if_possible
from backend.domain.errors import CaptionerError, DatabaseError, QueueError
from backend.drafts import calibrating
from backend.drafts.queueing import queue_refreshes
from backend.drafts.refresh import refresh_if_possible
from backend.images.sharing import Sharing
from backend.queue import Queue
from backend.retraining.heartbeat import Heartbeat, SupersededError
from backend.retraining.snapshot import PostponedError
from backend.settings import Settings
from backend.store.retrains import DONE, FAILED, Retrain
from backend.store.store import Store
from backend.system.processes import share_cores
from training.errors import TrainingError
from training.runtime.files import is_full

log = logging.getLogger(__name__)


MOST_ATTEMPTS = 10
"""A retrain that the database has interrupted so often fails, or it would be trained for ever."""


class StoppedError(BaseException):
    """The worker was told to stop. No `except Exception` catches it."""


@contextmanager
def _if_database_answers() -> Iterator[None]:
    """Within the block, a database that fails, such as one on a full disk, ends the job with one sentence. SQL or the
    schedule still has what is pending, and it is queued again."""
    try:
        yield
    except DatabaseError as error:
        log.error("The job is postponed: %s", error)


@_if_database_answers()
def retrain(retrain_id: int) -> None:
    """Train, judge and perhaps promote a candidate; errors are recorded as the outcome and not raised."""
    settings, store = _opened()
    _follow(settings, store)
    claimed = store.claim_retrain(retrain_id)
    if claimed is None:
        log.info("Retrain %d has ended, waits or runs in another process.", retrain_id)
        return
    try:
        with _stoppable():
            _attempt(settings, store, claimed)
    except StoppedError:
        log.warning("Retrain %s: the worker stops; the next one begins it again.", claimed.snapshot)
        store.release_retrain(claimed)
        return
    Inbox(store, Queue(settings.redis_url), settings).queue_due(claimed.project_id)
    calibrating.calibrate(store, claimed.project_id)


def _opened() -> tuple[Settings, Store]:
    settings = Settings.from_env()
    store = Store(settings.database_url, settings.data_dir)
    store.migrate()
    return settings, store


def _follow(settings: Settings, store: Store) -> None:
    """Fetch what other machines have changed, for this one may have no web process that does."""
    try:
        Sharing(settings, store).follow()
    except CaptionerError as error:
        log.warning("What other machines have changed is not fetched: %s", error)


def _attempt(settings: Settings, store: Store, claimed: Retrain) -> None:
    from backend.retraining.attempt import Retraining  # imports torch, which the other jobs do not need

    with Heartbeat(store, claimed) as heartbeat:
        version: str | None = None
        try:
            version, outcome = Retraining(settings, store, claimed, heartbeat).run()
            state = DONE
        except SupersededError:
            log.warning(
                "Retrain %s, attempt %d ends: it was cancelled, or another process has taken over.",
                claimed.snapshot,
                claimed.attempt,
            )
            return
        except PostponedError as error:
            _postpone(store, claimed, str(error))
            return
        except Exception as error:
            if is_full(error):
                _postpone(store, claimed, f"The disk with {settings.data_dir} is full: free some space.")
                return
            if isinstance(error, DatabaseError) and claimed.attempt < MOST_ATTEMPTS:
                log.warning("Retrain %s is given back, and begun again: %s", claimed.snapshot, error)
                store.release_retrain(claimed)  # where that cannot be written either, its lease ends
                return
            if isinstance(error, CaptionerError | TrainingError):
                state, outcome = FAILED, str(error)
            else:
                log.exception("Retrain %s failed.", claimed.snapshot)
                state, outcome = FAILED, f"The retrain failed ({error!r}); the worker's log tells where."
    log.info("Retrain %s: %s", claimed.snapshot, outcome)
    store.finish_retrain(claimed, state=state, outcome=outcome, version=version)


def _postpone(store: Store, claimed: Retrain, reason: str) -> None:
    log.warning("Retrain %s is postponed: %s", claimed.snapshot, reason)
    store.postpone_retrain(claimed, reason)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Within the block, SIGTERM raises StoppedError; a second one changes nothing."""

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise StoppedError

    usual = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, usual)


@_if_database_answers()
def reconcile(project_id: int) -> None:
    """Record what Label Studio sent no event for, and queue a retrain if one is due."""
    settings, store = _opened()
    reconcile_if_possible(settings, store, project_id, complete=is_complete_due(settings, store, project_id))
    Inbox(store, Queue(settings.redis_url), settings).queue_due(project_id)


@_if_database_answers()
def calibrate(project_id: int) -> None:
    """Learn anew how likely the project's drafts are accepted."""
    calibrating.calibrate(_opened()[1], project_id)


@_if_database_answers()
def track(project_id: int) -> None:
    """Tell MLflow of the project's retrains and champion; what goes wrong is logged and not raised."""
    from backend.retraining.tracking.server import follow

    follow(*_opened(), project_id)


@_if_database_answers()
def refresh(project_id: int) -> None:
    """Refresh the project's drafts for about a minute; errors are recorded and not raised."""
    settings, store = _opened()
    _follow(settings, store)
    queue = Queue(settings.redis_url)
    with suppress(QueueError):
        share_cores(queue.workers(here=True))
    try:
        with _stoppable():
            refresh_if_possible(settings, store, project_id)
    except StoppedError:
        log.warning("The drafts of project %d: the worker stops; the next one goes on.", project_id)
        return
    with suppress(QueueError):  # the watcher of a web process queues it
        queue_refreshes(settings, store, queue, project_id)  # behind what waits
