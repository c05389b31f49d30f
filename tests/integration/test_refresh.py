"""Jobs that make drafts anew, in a real Redis."""

from __future__ import annotations

from pathlib import Path

import redis
from rq.job import Job
from rq.serializers import JSONSerializer

from backend.queue import Queue
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import settings
from tests.integration.conftest import start_worker


def test_each_part_is_queued_once_and_a_label_studio_that_is_away_is_noted(redis_url: str, tmp_path: Path) -> None:
    given = settings(
        tmp_path, REDIS_URL=redis_url, LABEL_STUDIO_URL="http://127.0.0.1:9", LABEL_STUDIO_API_KEY="0" * 40
    )
    store, queue = Store(given.database_url), Queue(redis_url)
    store.migrate()
    Registry(store).register(ModelVersion("v1", tmp_path / "v1"))
    Registry(store).promote(1, "v1", reason="for a test", by="test")
    assert {queue.enqueue_refresh(1, 1) for _ in range(3)} == {"refresh-1-1"}
    assert queue.waiting() == 1
    assert start_worker(given, burst=True).wait() == 0
    job = Job.fetch("refresh-1-1", connection=redis.Redis.from_url(redis_url), serializer=JSONSerializer)
    assert job.get_status() == "finished"
    state = store.refresh_state(1)
    assert "cannot be reached" in str(state.failure)
    assert (state.jobs, state.heartbeat_at) == (1, None)
    assert queue.enqueue_refresh(1, state.jobs + 1) == "refresh-1-2"
    assert queue.waiting() == 1, "the next run does not wait for the last one to be forgotten"
