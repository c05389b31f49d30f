"""Background work, queued in Redis by RQ. SQL knows what is pending, so Redis may be emptied at any time."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import redis
import rq
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from backend.domain.errors import QueueError
from backend.store.database import now
from backend.store.retrains import Retrain
from backend.system import trust
from backend.system.processes import is_alive
from backend.system.rq_worker import ENDED, RETRY_SECONDS, Job, Worker, prepare_children, tls

log = logging.getLogger(__name__)

DRAFTS, RETRAINS = "captioner-draft", "captioner-retrain"
OLD = "captioner"
"""The one queue of earlier releases: what waits in it after an upgrade is still done."""
QUEUES = (DRAFTS, RETRAINS, OLD)
# By name: the web process never loads torch.
RETRAIN, RECONCILE, REFRESH = "backend.jobs.retrain", "backend.jobs.reconcile", "backend.jobs.refresh"
CALIBRATE, TRACK = "backend.jobs.calibrate", "backend.jobs.track"
JOBS = frozenset({RETRAIN, RECONCILE, REFRESH, CALIBRATE, TRACK})
"""What a worker runs; each takes numbers only."""

ANSWER_SECONDS = 0.5
"""How long Redis may take: Label Studio waits one second for the webhook that queues."""
JOB_TIMEOUT_SECONDS = 24 * 3600
"""Only a limit for jobs that never end; a retrain whose process died is found by its heartbeat."""
RETRY_AFTER_SECONDS = 30.0
"""A job that ended while its retrain still waits (a worker that cannot start it) is queued again after so long."""
LOST_AFTER_SECONDS = 120.0
"""RQ's workers renew the heartbeat of a running job every 30 s; a job without one for so long is lost."""
MAINTENANCE_SECONDS = 60
"""A scheduler that died, because Redis was away, is started again within so long."""


class Queue:
    """The queue at a Redis address; connects when first used. Threads may share it.

    Every method raises QueueError when Redis cannot be reached.
    """

    def __init__(self, redis_url: str | None) -> None:
        if not redis_url:
            raise QueueError("No Redis is known: set REDIS_URL, or let `captioner up` run one.")
        self._url = redis_url
        self._connection = redis.Redis.from_url(
            redis_url,
            **tls(redis_url),
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._queues = {name: self._named(name) for name in QUEUES}

    def ping(self) -> None:
        with _reaching():
            self._connection.ping()

    def waiting(self) -> int:
        """Jobs that no worker has begun."""
        with _reaching():
            return sum(map(len, self._queues.values()))

    def depths(self, *names: str) -> dict[str, int]:
        """Jobs of these queues, or of all, by where they are: waiting, scheduled for later, running, failed within the
        last day."""
        counts = Counter(waiting=0, scheduled=0, running=0, failed=0)
        with _reaching():
            for queue in (self._queues[name] for name in names or QUEUES):
                counts["waiting"] += len(queue)
                counts["scheduled"] += int(queue.scheduled_job_registry.get_job_count(cleanup=False))
                counts["running"] += int(queue.started_job_registry.get_job_count(cleanup=False))
                counts["failed"] += int(queue.failed_job_registry.get_job_count(cleanup=False))
        return dict(counts)

    def ended(self) -> dict[tuple[str, str], int]:
        """How many jobs have ended, by kind and outcome: `finished` or `failed`."""
        with _reaching():
            counts = self._connection.hgetall(ENDED)
        found = {}
        for name, number in counts.items():
            kind, _, outcome = (name.decode() if isinstance(name, bytes) else name).partition(" ")
            found[kind, outcome] = int(number)
        return found

    def enqueue_retrain(self, retrain: Retrain) -> str:
        """Queue the next attempt at it; nothing changes where it is queued already. Returns the job's id."""
        return self._enqueue(RETRAIN, retrain.id, job_id=_job_id(retrain))

    def drop_retrain(self, retrain: Retrain) -> bool:
        """Take the next attempt at it out of the queue; False where none waits there."""
        with _reaching():
            waited = sum(int(queue.remove(_job_id(retrain)) or 0) for queue in self._queues.values()) > 0
            if waited:  # else a worker may have it
                Job(_job_id(retrain), connection=self._connection, serializer=JSONSerializer).delete()
        return waited

    def schedule_reconcile(self, project_id: int, at: datetime) -> str:
        """Schedule a comparison of the project with Label Studio, or queue it where the time has come.

        Nothing changes where one is scheduled, queued or running already. Returns the job's id.
        """
        return self._enqueue(RECONCILE, project_id, job_id=f"reconcile-{project_id}", at=at)

    def workers(self, here: bool = False, name: str | None = None) -> int:
        """Workers that run, on any machine or only on this one, all or those that take jobs of a queue; one that was
        killed is counted for some minutes."""
        with _reaching():
            return sum(_is_here(each) or not here for each in self._workers(name))

    def alive(self, name: str | None = None) -> int:
        """Workers that run, on any machine, all or those that take jobs of a queue; one that was killed on another is
        counted for some minutes."""
        with _reaching():
            known, host = self._workers(name), socket.gethostname()
            return sum(each.hostname != host or _is_here(each) for each in known)

    def ahead_seconds(self) -> float:
        """By how much the clock of Redis is ahead of this machine's."""
        with _reaching():
            asked = time.time()
            seconds, microseconds = self._connection.time()
            return float(seconds + microseconds / 1e6 - (asked + time.time()) / 2)

    def enqueue_refresh(self, project_id: int, number: int) -> str:
        """Queue the job with this number that drafts the project, once. Returns the job's id."""
        return self._enqueue(REFRESH, project_id, job_id=f"refresh-{project_id}-{number}")

    def enqueue_calibration(self, project_id: int) -> str:
        """Queue the calibration of the project's scores; nothing changes where it is queued already. Returns the job's
        id."""
        return self._enqueue(CALIBRATE, project_id, job_id=f"calibrate-{project_id}")

    def enqueue_tracking(self, project_id: int, state: str) -> str:
        """Queue the job that tells MLflow of the project in this state, once. Returns the job's id."""
        return self._enqueue(TRACK, project_id, job_id=f"track-{project_id}-{state}")

    def work(self, burst: bool = False, gpu: bool = False, only: str | None = None) -> None:
        """Run queued jobs until told to stop; with `burst`, until nothing is queued. See `worker`.

        A Redis that goes away, or cannot be written, is waited for; with `burst` it is a QueueError.
        """
        prepare_children()
        while lost := self._work_or_lose(burst, gpu, only):
            if burst:
                with _reaching():
                    raise lost
            log.warning("The worker waits for Redis: %s", _reason(lost))
            time.sleep(RETRY_SECONDS)

    def _work_or_lose(self, burst: bool, gpu: bool, only: str | None) -> redis.RedisError | None:
        try:
            return self.worker(gpu, only).work_or_lose(burst=burst, with_scheduler=True)
        except redis.RedisError as error:  # a new worker says its name to Redis
            return error

    def worker(self, gpu: bool = False, only: str | None = None) -> Worker:
        """A worker with a `gpu` takes retrains first, one without takes drafts first, and retrains only while no worker
        with a GPU runs. `only` names the one queue that is taken from, whatever the device."""
        connection = redis.Redis.from_url(self._url, **tls(self._url))  # waits for work as long as it takes
        names = [only] if only else [RETRAINS, DRAFTS] if gpu else [DRAFTS, RETRAINS]
        worker = Worker([*names, OLD], JOBS, connection=connection, maintenance_interval=MAINTENANCE_SECONDS)
        worker.trains = gpu and only != DRAFTS
        worker.left_to_gpus = set() if gpu or only else {RETRAINS}
        return worker

    def _named(self, name: str) -> rq.Queue:
        return rq.Queue(name, connection=self._connection, serializer=JSONSerializer, job_class=Job)

    def _workers(self, name: str | None) -> list[rq.Worker]:
        """Those that take jobs of the queue, or of any."""
        names = (name,) if name else QUEUES
        found = [rq.Worker.all(queue=self._queues[each], serializer=JSONSerializer) for each in names]
        return list({worker.name: worker for workers in found for worker in workers}.values())

    def _enqueue(self, function: str, *arguments: Any, job_id: str, at: datetime | None = None) -> str:
        with _reaching(), suppress(DuplicateJobError):  # it is queued already
            if self._is_over(job_id, at or now()):
                Job(job_id, connection=self._connection, serializer=JSONSerializer).delete()
                for each in self._queues.values():
                    each.intermediate_queue.remove(job_id)  # or RQ would take the new one for the lost one
            queue = self._queues[RETRAINS if function == RETRAIN else DRAFTS]
            job = queue.create_job(
                function,
                args=arguments,
                job_id=job_id,
                timeout=JOB_TIMEOUT_SECONDS,
                result_ttl=3600,
                failure_ttl=24 * 3600,
            )
            if at is None or at <= now():
                queue.enqueue_job(job, unique=True)
            else:
                queue.schedule_job(job, at, unique=True)
        return job_id

    def _is_over(self, job_id: str, at: datetime) -> bool:
        """Whether there is such a job and no worker will run it any more, or only long after that time: a clock that
        has been set back since has scheduled it."""
        try:
            job = Job.fetch(job_id, connection=self._connection, serializer=JSONSerializer)
            status = job.get_status()
        except (NoSuchJobError, InvalidJobOperation):
            return False
        after_seconds = RETRY_AFTER_SECONDS
        if status == JobStatus.STARTED:
            ended, after_seconds = job.last_heartbeat, LOST_AFTER_SECONDS
        elif status == JobStatus.QUEUED and self._named(job.origin).get_job_position(job_id) is None:
            # A worker took it and died before it began; RQ itself finds those only minutes later.
            ended = job.enqueued_at
        elif status == JobStatus.SCHEDULED:
            planned = self._named(job.origin).scheduled_job_registry.get_scheduled_time(job)
            return planned - at >= timedelta(seconds=LOST_AFTER_SECONDS)
        elif status in {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED}:
            ended = job.ended_at
        else:
            return False
        return ended is None or abs(now() - ended) >= timedelta(seconds=after_seconds)


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise QueueError(
            f"Redis cannot be reached ({_reason(error)}); work stays in the database and is queued again later."
        ) from error


def _reason(error: redis.RedisError) -> str:
    """What Redis or its client says, without the number, which means nothing to people."""
    return trust.fault(error) or re.sub(r"^Error -?\d+ ", "", str(error)).rstrip(".")


def _is_here(worker: rq.Worker) -> bool:
    """Whether it runs on this machine."""
    return worker.hostname == socket.gethostname() and bool(worker.pid) and is_alive(worker.pid)


def _job_id(retrain: Retrain) -> str:
    """Of the next attempt at it."""
    return f"retrain-{retrain.snapshot}-{retrain.attempt + 1}"
