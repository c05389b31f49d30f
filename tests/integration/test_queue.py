from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import rq
from rq.job import Job
from rq.serializers import JSONSerializer

from backend.domain.errors import QueueError
from backend.queue import DRAFTS, OLD, RETRAINS, Queue
from backend.store.database import now
from backend.store.retrains import QUEUED, Retrain
from backend.system import rq_worker, trust
from tests.factories import settings
from tests.fakes import host
from tests.integration.conftest import ROOT, start_worker, wait_for

ASSETS = ROOT / "tests" / "assets"
RETRAIN = Retrain(
    7, 1, "1-12", 12, False, 0, QUEUED, None, None, {}, datetime(2026, 1, 1, tzinfo=UTC), None, None, None
)  # fmt: skip


@pytest.fixture
def queue(redis_url: str) -> Queue:
    return Queue(redis_url)


def job(redis_url: str, job_id: str) -> Job:
    return Job.fetch(job_id, connection=redis.Redis.from_url(redis_url), serializer=JSONSerializer)


def test_a_retrain_is_queued_once_however_often_it_is_asked(queue: Queue, redis_url: str) -> None:
    assert {queue.enqueue_retrain(RETRAIN) for _ in range(3)} == {"retrain-1-12-1"}
    assert queue.waiting() == 1
    queued = job(redis_url, "retrain-1-12-1")
    assert (queued.func_name, list(queued.args)) == ("backend.jobs.retrain", [7])
    assert queue.enqueue_retrain(replace(RETRAIN, attempt=1)) == "retrain-1-12-2"
    assert queue.waiting() == 2


def test_a_queued_retrain_is_taken_out_but_not_one_that_a_worker_has(queue: Queue, redis_url: str) -> None:
    assert not queue.drop_retrain(RETRAIN), "nothing is queued"
    queue.enqueue_retrain(RETRAIN)
    assert queue.drop_retrain(RETRAIN)
    assert queue.waiting() == 0
    assert not redis.Redis.from_url(redis_url).exists("rq:job:retrain-1-12-1")
    queue.enqueue_retrain(RETRAIN)
    assert queue.waiting() == 1, "it may be asked for again at once"
    redis.Redis.from_url(redis_url).lpop("rq:queue:captioner-retrain")
    assert not queue.drop_retrain(RETRAIN)
    assert job(redis_url, "retrain-1-12-1").func_name == "backend.jobs.retrain"


def test_what_is_in_redis_is_json(queue: Queue, redis_url: str) -> None:
    queue.enqueue_retrain(RETRAIN)
    raw = redis.Redis.from_url(redis_url).hget("rq:job:retrain-1-12-1", "data")
    assert raw is not None
    assert b"backend.jobs.retrain" in job(redis_url, "retrain-1-12-1").data
    assert JSONSerializer.loads(job(redis_url, "retrain-1-12-1").data)[0] == "backend.jobs.retrain"


@pytest.mark.parametrize("status", ["failed", "finished", "stopped"])
def test_a_job_that_ended_without_its_retrain_is_queued_again(queue: Queue, redis_url: str, status: str) -> None:
    queue.enqueue_retrain(RETRAIN)
    connection = redis.Redis.from_url(redis_url)
    connection.delete("rq:queue:captioner-retrain")
    connection.hset("rq:job:retrain-1-12-1", mapping={"status": status, "ended_at": _stamp(time.time() - 5)})
    queue.enqueue_retrain(RETRAIN)
    assert queue.waiting() == 0, "a worker that cannot begin it is not asked again every second"
    connection.hset("rq:job:retrain-1-12-1", "ended_at", _stamp(time.time() - 60))
    queue.enqueue_retrain(RETRAIN)
    assert queue.waiting() == 1


def test_a_job_whose_worker_vanished_is_queued_again(queue: Queue, redis_url: str) -> None:
    queue.enqueue_retrain(RETRAIN)
    connection = redis.Redis.from_url(redis_url)
    connection.delete("rq:queue:captioner-retrain")
    begun = {"status": "started", "started_at": _stamp(time.time() - 500)}
    connection.hset("rq:job:retrain-1-12-1", mapping={**begun, "last_heartbeat": _stamp(time.time() - 20)})
    queue.enqueue_retrain(RETRAIN)
    assert queue.waiting() == 0
    connection.hset("rq:job:retrain-1-12-1", "last_heartbeat", _stamp(time.time() - 200))
    queue.enqueue_retrain(RETRAIN)
    assert queue.waiting() == 1


@pytest.mark.parametrize("kind", ["retrain", "reconcile"])
def test_a_job_lost_between_the_queue_and_its_worker_is_queued_again(queue: Queue, redis_url: str, kind: str) -> None:
    def enqueue() -> str:
        return queue.enqueue_retrain(RETRAIN) if kind == "retrain" else queue.schedule_reconcile(1, now())

    job_id = enqueue()
    connection = redis.Redis.from_url(redis_url)
    connection.hset(f"rq:job:{job_id}", "enqueued_at", _stamp(time.time() - 60))
    enqueue()
    assert queue.waiting() == 1, "it only waits for its turn"
    key = f"rq:queue:captioner-{'retrain' if kind == 'retrain' else 'draft'}"
    connection.lmove(key, f"{key}:intermediate")
    connection.hset(f"rq:job:{job_id}", "enqueued_at", _stamp(time.time() - 5))
    enqueue()
    assert queue.waiting() == 0, "its worker may be about to begin"
    connection.hset(f"rq:job:{job_id}", "enqueued_at", _stamp(time.time() - 60))
    enqueue()
    assert queue.waiting() == 1
    assert connection.llen(f"{key}:intermediate") == 0


def test_redis_being_away_is_known_at_once(tmp_path: Path) -> None:
    queue = Queue(f"unix://{tmp_path}/nobody.sock")
    began = time.monotonic()
    asked = (lambda: queue.enqueue_retrain(RETRAIN), lambda: queue.drop_retrain(RETRAIN))
    for attempt in (queue.ping, queue.waiting, *asked):
        with pytest.raises(QueueError, match=r"^Redis cannot be reached .*; work stays in the database"):
            attempt()
    assert time.monotonic() - began < 1
    with pytest.raises(QueueError, match="set REDIS_URL"):
        Queue(None)


def test_the_worker_itself_never_loads_torch(redis_url: str, tmp_path: Path) -> None:
    queue = Queue(redis_url)
    queue.schedule_reconcile(1, now())
    program = (
        "import sys; from backend.queue import Queue; from backend.system import logs; logs.configure('json'); "
        "Queue(sys.argv[1]).work(burst=True); "
        "print({'torch', 'torchvision'} & set(sys.modules))"
    )
    environ = {**os.environ, **settings(tmp_path, REDIS_URL=redis_url).to_env()}
    done = subprocess.run([sys.executable, "-c", program, redis_url], cwd=ROOT, env=environ, capture_output=True)
    assert done.stdout.decode().splitlines()[-1:] == ["set()"], done.stderr.decode()
    assert (tmp_path / "captioner.db").exists(), "its work-horse did the job"
    assert job(redis_url, "reconcile-1").get_status() == "finished"
    assert Queue(redis_url).ended() == {("reconcile", "finished"): 1}
    lines = [json.loads(line) for line in done.stderr.decode().splitlines()]
    of_horse = [line for line in lines if line["process"] != lines[0]["process"]]
    assert of_horse
    assert {line.get("job") for line in of_horse} == {"reconcile-1"}
    assert lines[0].get("job") is None, "the worker works on none"


def test_a_job_that_is_none_of_ours_is_removed_and_not_run(queue: Queue, redis_url: str, tmp_path: Path) -> None:
    """As planted by somebody who may write to Redis."""
    connection = redis.Redis.from_url(redis_url)
    ran = tmp_path / "ran"

    def plant(job_id: str, data: bytes, **fields: str) -> None:
        queue.schedule_reconcile(int(job_id), now())
        connection.hset(f"rq:job:reconcile-{job_id}", mapping={"data": data, **fields})

    def of(*parts: object) -> bytes:
        return json.dumps(parts).encode()

    plant("1", of("os.system", None, [f"touch {ran}"], {}), failure_callback_name="os.system")
    plant("2", of("backend.jobs.retrain.__globals__", None, [], {}))
    plant("3", of("backend.jobs.reconcile", None, [f"touch {ran}"], {}))
    plant("4", of("backend.jobs.reconcile", f"touch {ran}", [1], {}))
    plant("5", pickle.dumps(("os.system", None, (f"touch {ran}",), {})))
    with host() as watched:
        asked = json.dumps([{"url": watched.url, "job_status": "finished", "method": "POST"}])
        ours = of("backend.jobs.reconcile", None, [6], {})
        plant("6", ours, success_callback_name="tests.fakes.host", webhooks=asked)
        command = "import sys; from backend.system import logs; logs.configure('text'); "
        command += "from backend.queue import Queue; Queue(sys.argv[1]).work(burst=True)"
        environ = {**os.environ, **settings(tmp_path, REDIS_URL=redis_url).to_env()}
        argv = [sys.executable, "-c", command, redis_url]
        done = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not ran.exists()
    assert watched.asked == []
    assert "Traceback" not in done.stderr
    for number, why in (
        (1, "it names 'os.system', which is no job of the captioner."),
        (2, "it names 'backend.jobs.retrain.__globals__', which is no job of the captioner."),
        (3, "it gives backend.jobs.reconcile other arguments than numbers."),
        (4, "it gives backend.jobs.reconcile other arguments than numbers."),
        (5, "it is not JSON."),
    ):
        assert f"The job 'reconcile-{number}' is removed and was not run: {why}\n" in done.stderr
        assert not connection.exists(f"rq:job:reconcile-{number}")
    assert job(redis_url, "reconcile-6").get_status() == "finished"
    assert queue.ended() == {("unknown", "refused"): 5, ("reconcile", "finished"): 1}
    assert connection.llen("rq:queue:captioner-draft:intermediate") == 0


def test_a_worker_takes_what_its_device_suits(queue: Queue) -> None:
    def takes(worker: rq_worker.Worker) -> list[str]:
        return [each.name for each in worker._ordered_queues]

    plain, gpu = queue.worker(), queue.worker(gpu=True)
    assert takes(plain) == [DRAFTS, RETRAINS, OLD], "alone it does everything"
    gpu.heartbeat()
    assert takes(gpu) == [RETRAINS, DRAFTS, OLD]
    assert takes(plain) == [DRAFTS, OLD]
    assert takes(queue.worker(only=RETRAINS)) == [RETRAINS, OLD], "whatever the device"
    drafts = queue.worker(gpu=True, only=DRAFTS)
    assert takes(drafts) == [DRAFTS, OLD]
    gpu.register_death()
    drafts.heartbeat()
    assert takes(plain) == [DRAFTS, RETRAINS, OLD], "one that only drafts trains nothing"


def test_workers_are_counted_by_what_they_take(queue: Queue) -> None:
    for worker in (queue.worker(), queue.worker(only=DRAFTS)):
        worker.register_birth()
    assert (queue.workers(), queue.workers(name=DRAFTS), queue.workers(name=RETRAINS)) == (2, 2, 1)
    assert (queue.alive(), queue.alive(RETRAINS)) == (2, 1)


def test_what_waits_in_the_queue_of_an_earlier_release_is_done(queue: Queue, redis_url: str, tmp_path: Path) -> None:
    connection = redis.Redis.from_url(redis_url)
    old = rq.Queue(OLD, connection=connection, serializer=JSONSerializer)
    old.enqueue_job(old.create_job("backend.jobs.reconcile", args=(1,), job_id="reconcile-1"))
    scheduled = old.create_job("backend.jobs.reconcile", args=(2,), job_id="reconcile-2")
    old.schedule_job(scheduled, now() + timedelta(seconds=1))
    connection.hset("rq:job:reconcile-1", "enqueued_at", _stamp(time.time() - 60))
    for number in (1, 2):
        queue.schedule_reconcile(number, now())
    assert queue.depths() == {"waiting": 1, "scheduled": 1, "running": 0, "failed": 0}, "they are known"
    assert queue.depths(DRAFTS)["waiting"] == 0
    worker = start_worker(settings(tmp_path, REDIS_URL=redis_url), burst=False)
    try:
        for name in ("reconcile-1", "reconcile-2"):
            wait_for(lambda name=name: job(redis_url, name).get_status() == "finished", name, worker)  # type: ignore[misc]
    finally:
        worker.kill()
        worker.wait()
    assert queue.waiting() == 0


def test_redis_is_reached_over_tls_that_is_checked(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in trust.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with tls_before(redis_url.removeprefix("unix://"), ASSETS / "loopback.pem") as port:
        url = f"rediss://127.0.0.1:{port}/0"
        with pytest.raises(QueueError, match=r"certificate is not trusted .* REQUESTS_CA_BUNDLE or SSL_CERT_FILE"):
            Queue(url).ping()
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(ASSETS / "loopback-ca.pem"))
            Queue(url).ping()
            monkeypatch.delenv(name)
        monkeypatch.setenv("SSL_CERT_FILE", str(ASSETS / "loopback-ca.pem"))
        Queue(url).schedule_reconcile(1, now())
        assert start_worker(settings(tmp_path, REDIS_URL=url), burst=True).wait() == 0
        assert job(redis_url, "reconcile-1").get_status() == "finished", "the worker and its child speak TLS too"


@contextmanager
def tls_before(path: str, certificate: Path) -> Iterator[int]:
    """A port at which the Unix socket is reached over TLS, for the embedded Redis is built without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def forward(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while read := source.recv(2**16):
                target.sendall(read)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                client = listening.accept()[0]
            except OSError:
                return
            with suppress(OSError):
                client.settimeout(None)
                secured = context.wrap_socket(client, server_side=True)
                inner = socket.socket(socket.AF_UNIX)
                inner.connect(path)
                for pair in ((secured, inner), (inner, secured)):
                    threading.Thread(target=forward, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def test_a_comparison_is_begun_when_its_time_comes(queue: Queue, redis_url: str, tmp_path: Path) -> None:
    later = now() + timedelta(hours=1)
    assert {queue.schedule_reconcile(1, later) for _ in range(3)} == {"reconcile-1"}
    assert (queue.waiting(), job(redis_url, "reconcile-1").get_status()) == (0, "scheduled")
    assert queue.depths() == {"waiting": 0, "scheduled": 1, "running": 0, "failed": 0}
    assert start_worker(settings(tmp_path, REDIS_URL=redis_url), burst=True).wait() == 0
    assert job(redis_url, "reconcile-1").get_status() == "scheduled", "its time has not come"
    redis.Redis.from_url(redis_url).flushall()
    at = now() + timedelta(seconds=3)
    queue.schedule_reconcile(1, at)  # as the watcher does from SQL
    worker = start_worker(settings(tmp_path, REDIS_URL=redis_url), burst=False)
    try:
        wait_for(lambda: job(redis_url, "reconcile-1").get_status() == "finished", "the comparison", worker)
        assert now() >= at - timedelta(seconds=1)  # RQ counts in whole seconds
        children = _children(worker.pid)
        assert children, "its scheduler"
        worker.kill()
        worker.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in children), "the end of its scheduler")
    finally:
        worker.kill()
        worker.wait()


def test_a_worker_stops_at_the_first_signal(queue: Queue, redis_url: str, tmp_path: Path) -> None:
    worker = start_worker(settings(tmp_path, REDIS_URL=redis_url), burst=False)
    try:
        wait_for(lambda: queue.workers() == 1, "a worker", worker)
        # RQ makes itself known before it minds signals
        wait_for(lambda: _minds(worker.pid, signal.SIGTERM), "the worker to mind the signal", worker)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert queue.workers() == 0
    finally:
        worker.kill()
        worker.wait()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _minds(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal (Linux: proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
