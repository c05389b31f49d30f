"""What a worker does: retrain a project on its corrections, compare it with Label Studio's export.

Arguments are JSON, settings come from the environment. A job may be killed at any moment and run again: what it has
done is found in SQL and in the snapshot, and what was left half done is cleared away.
"""

from __future__ import annotations

import logging

from backend.errors import CaptionerError
from backend.inbox import Inbox
from backend.pulse import Pulse, SupersededError
from backend.queue import Queue
from backend.reconcile import reconcile_if_possible
from backend.retraining import Retraining
from backend.retrains import DONE, FAILED
from backend.settings import Settings
from backend.store import Store
from training.errors import TrainingError

log = logging.getLogger(__name__)


def retrain(retrain_id: int) -> None:
    """Train, judge and perhaps promote a candidate for the corrections of this retrain; never raises for its faults."""
    settings = Settings.from_env()
    store = Store(settings.database_url)
    store.migrate()
    claimed = store.claim_retrain(retrain_id)
    if claimed is None:
        log.info("Retrain %d has ended or is being done by another process.", retrain_id)
        return
    with Pulse(store, claimed) as pulse:
        version: str | None = None
        try:
            version, outcome = Retraining(settings, store, claimed, pulse).run()
            state = DONE
        except SupersededError:
            log.warning("Retrain %s, attempt %d: another process has taken over.", claimed.snapshot, claimed.attempt)
            return
        except (CaptionerError, TrainingError) as error:
            state, outcome = FAILED, str(error)
        except Exception as error:
            log.exception("Retrain %s failed.", claimed.snapshot)
            state, outcome = FAILED, f"The retrain failed ({error!r}); the worker's log tells where."
    log.info("Retrain %s: %s", claimed.snapshot, outcome)
    store.finish_retrain(retrain_id, claimed.attempt, state=state, outcome=outcome, version=version)
    Inbox(store, Queue(settings.redis_url), settings).queue_due(claimed.project_id)


def reconcile(project_id: int) -> None:
    """Take in what Label Studio did not tell of, and retrain if that makes one due."""
    settings = Settings.from_env()
    store = Store(settings.database_url)
    store.migrate()
    reconcile_if_possible(settings, store, project_id)
    Inbox(store, Queue(settings.redis_url), settings).queue_due(project_id)
