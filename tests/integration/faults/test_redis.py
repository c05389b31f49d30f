"""Redis dies, comes back empty, and refuses to be written: a worker goes on by itself, with the job that it has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from backend.domain.errors import QueueError
from backend.queue import ANSWER_SECONDS, Queue
from backend.store.database import now
from benchmarks.services import Redis
from tests.factories import backend, correction, saved, settings
from tests.integration.conftest import ROOT, wait_for

PROGRAM = """
import sys, time
from pathlib import Path
from backend import jobs, queue
from backend.system import logs, rq_worker

folder = Path(sys.argv[2])

def until_told(number):
    (folder / f"begun-{number}").touch()
    while not (folder / f"end-{number}").exists():
        time.sleep(0.02)
    (folder / f"done-{number}").touch()

class Worker(rq_worker.Worker):
    def __init__(self, *given, **options):
        super().__init__(*given, job_monitoring_interval=1, **options)

queue.Worker = Worker
jobs.reconcile = until_told
logs.configure("text")
queue.Queue(sys.argv[1]).work()
"""


@pytest.fixture
def server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def test_a_worker_outlives_a_redis_that_dies_and_one_that_is_read_only(server: Redis, tmp_path: Path) -> None:
    log, queue = tmp_path / "log", Queue(server.url)
    environ = {**os.environ, **settings(tmp_path, REDIS_URL=server.url).to_env()}
    with log.open("wb") as lines:
        argv = [sys.executable, "-c", PROGRAM, server.url, str(tmp_path)]
        worker = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=lines, stderr=lines)

    def told(words: str, times: int = 1) -> None:
        wait_for(lambda: log.read_text().count(words) >= times, words, worker)

    def there(name: str) -> None:
        wait_for((tmp_path / name).exists, f"{name}:\n{log.read_text()}", worker)

    def works(number: int) -> None:
        (tmp_path / f"end-{number}").touch()
        queue.schedule_reconcile(number, now())
        there(f"done-{number}")

    try:
        queue.schedule_reconcile(1, now())
        there("begun-1")
        server.stop(signal.SIGKILL)
        with pytest.raises(QueueError, match=r"^Redis cannot be reached \(.*\); work stays in the database"):
            queue.schedule_reconcile(2, now())
        told("Redis does not answer; the job goes on")
        (tmp_path / "end-1").touch()
        there("done-1")
        told("The worker waits for Redis", times=2)  # the second one is told before it has begun to work
        server.start()
        works(2)

        queue.schedule_reconcile(4, now())
        there("begun-4")
        connection = redis.Redis.from_url(server.url)
        connection.replicaof("127.0.0.1", "1")
        (tmp_path / "end-4").touch()
        told("failed to persist failure of job reconcile-4")
        with pytest.raises(QueueError, match=r"^Redis cannot be reached \(.*read only.*\); work stays"):
            queue.schedule_reconcile(3, now())
        told("The worker waits for Redis", times=3)
        connection.replicaof("NO", "ONE")
        works(3)
        assert "unhandled exception" not in log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        worker.kill()
        worker.wait()


def test_a_redis_that_says_nothing_keeps_a_webhook_for_half_a_second(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        services = backend(tmp_path, REDIS_URL=address, CAPTIONER_RETRAIN_EVERY="1")
        began = time.monotonic()
        receipt = services.inbox.receive(saved(correction(1)))
        assert time.monotonic() - began < 4 * ANSWER_SECONDS, "Label Studio waits one second; this machine may be slow"
    assert receipt.job == "retrain-1-1"
    assert [each.snapshot for each in services.store.queued_retrains()] == ["1-1"]
