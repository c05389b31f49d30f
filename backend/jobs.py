"""What a worker does: retrain a project on its corrections, compare it with Label Studio, make its drafts anew.

Arguments are JSON, settings come from the environment. A job may be killed at any moment and run again: what it has
done is found in SQL and in the snapshot, and what was left half done is cleared away.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from backend.corrections.inbox import Inbox
from backend.corrections.reconcile import is_complete_due, reconcile_if_possible
from backend.domain.errors import CaptionerError
from backend.drafts.refresh import refresh_if_possible
from backend.queue import Queue
from backend.retraining.heartbeat import Heartbeat, SupersededError
from backend.retraining.snapshot import PostponedError
from backend.settings import Settings
from backend.store.retrains import DONE, FAILED, Retrain
from backend.store.store import Store
from training.errors import TrainingError

log = logging.getLogger(__name__)


class StoppedError(BaseException):
    """The worker was told to stop; no handler of ordinary errors is to catch it."""


def retrain(retrain_id: int) -> None:
    """Train, judge and perhaps promote a candidate for the corrections of this retrain; never raises for its faults."""
    settings = Settings.from_env()
    store = Store(settings.database_url)
    store.migrate()
    claimed = store.claim_retrain(retrain_id)
    if claimed is None:
        log.info("Retrain %d has ended, waits or is being done by another process.", retrain_id)
        return
    try:
        with _stoppable():
            _attempt(settings, store, claimed)
    except StoppedError:
        log.warning("Retrain %s: the worker stops; it is begun again by the next.", claimed.snapshot)
        store.release_retrain(claimed.id, claimed.attempt)
        return
    Inbox(store, Queue(settings.redis_url), settings).queue_due(claimed.project_id)


def _attempt(settings: Settings, store: Store, claimed: Retrain) -> None:
    from backend.retraining.attempt import Retraining  # what a comparison every few minutes has no use for

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
            log.warning("Retrain %s is postponed: %s", claimed.snapshot, error)
            store.postpone_retrain(claimed, str(error))
            return
        except (CaptionerError, TrainingError) as error:
            state, outcome = FAILED, str(error)
        except Exception as error:
            log.exception("Retrain %s failed.", claimed.snapshot)
            state, outcome = FAILED, f"The retrain failed ({error!r}); the worker's log tells where."
    log.info("Retrain %s: %s", claimed.snapshot, outcome)
    store.finish_retrain(claimed.id, claimed.attempt, state=state, outcome=outcome, version=version)


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


def reconcile(project_id: int) -> None:
    """Take in what Label Studio did not tell of, and retrain if that makes one due."""
    settings = Settings.from_env()
    store = Store(settings.database_url)
    store.migrate()
    reconcile_if_possible(settings, store, project_id, complete=is_complete_due(settings, store, project_id))
    Inbox(store, Queue(settings.redis_url), settings).queue_due(project_id)


def refresh(project_id: int) -> None:
    """Go on for a minute with the drafts of the version that has come to serve; never raises for its faults."""
    settings = Settings.from_env()
    store = Store(settings.database_url)
    store.migrate()
    try:
        with _stoppable():
            refresh_if_possible(settings, store, project_id)
    except StoppedError:
        log.warning("The drafts of project %d: the worker stops; the next one goes on.", project_id)
