"""RQ's worker, limited to the jobs of this project, and the TLS of its connection.

Whoever may write to Redis could otherwise have a worker run any function: as a job, as what is called when a job has
ended, or as an address that is then asked for.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from typing import Any

import redis
import rq
import rq.job
from rq.exceptions import DeserializationError, StopRequested
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from backend.system import logs, trust
from training.runtime.processes import end_with_parent

log = logging.getLogger(__name__)

GPU = "captioner:gpu"
"""Key in Redis that exists while a worker with a GPU takes retrains."""
GPU_SECONDS = 120
"""The key ends so long after the last such worker's heartbeat, which comes every 30 s."""
WAIT_SECONDS = 30
"""How long a worker waits for a job before it asks again whether such a worker runs."""
ENDED = "captioner:ended"
"""Key in Redis: how many jobs have ended, by kind and outcome. An emptied Redis counts from 0 again."""
RETRY_SECONDS = 2.0
"""A worker that Redis does not answer, or does not let write, tries again after so long."""
STOP_SECONDS = 5.0
"""Time for a job to end by itself before it is killed."""
_NICE = 10


def tls(redis_url: str) -> dict[str, Any]:
    """Options of a connection to this address: a `rediss:` one trusts the authorities of every https connection."""
    if not redis_url.lower().startswith("rediss:"):
        return {}
    trusted = b"".join(trust.context().get_ca_certs(binary_form=True))
    folder = ssl.get_default_verify_paths().openssl_capath  # its authorities are read when they are needed
    return {"ssl_ca_data": trusted or None, "ssl_ca_path": folder, "ssl_check_hostname": True}


class Job(rq.job.Job):
    """A job without anything that RQ would call or ask for when it has ended."""

    def restore(self, raw_data: Mapping[bytes, bytes]) -> Any:
        return super().restore({name: value for name, value in raw_data.items() if name not in _AFTERWARDS})


_AFTERWARDS = {b"success_callback_name", b"failure_callback_name", b"stopped_callback_name", b"webhooks"}
"""What a job in Redis may have that is called or asked for when it has ended."""


def prepare_children() -> None:
    """Have the processes that this one forks, a job's or the scheduler, end with it and yield to drafting."""
    worker, stop = os.getpid(), {signal.SIGTERM}

    def prepare() -> None:
        if os.getppid() == worker:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # in place of the worker's own handler
            end_with_parent()
            os.nice(_NICE)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop)

    # An exception in `prepare` would be ignored, so a SIGTERM that comes meanwhile has to wait.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, stop),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, stop),
        after_in_child=prepare,
    )


def _in_a_sentence(record: logging.LogRecord) -> bool:
    """Of RQ's lines: says an error of Redis without a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, redis.RedisError):
        record.msg, record.args, record.exc_info = f"{record.getMessage()}: {error}", (), None
    return True


class Scheduler(RQScheduler):
    """RQ's process that queues jobs when their time has come. It ends with a sentence where Redis cannot be used; the
    worker's maintenance starts another."""

    def work(self) -> None:
        try:
            super().work()
        except redis.RedisError:
            log.warning("Redis does not answer; jobs that are scheduled wait for it.")


class LostError(StopRequested):
    """Redis does not answer, or does not let write: RQ's loop ends as when it is told to, and another worker begins.

    RQ itself waits for a Redis that is away only while it has no job.
    """


class Worker(rq.Worker):
    """RQ's forking worker, so that torch is loaded in the child process of a job only, and CUDA starts there.

    It runs these functions only, by their dotted names, and takes what else lies in its queue out of it.
    """

    def __init__(self, queues: Sequence[str], functions: Set[str], **options: Any) -> None:
        super().__init__(queues, serializer=JSONSerializer, job_class=Job, **options)
        self.log.addFilter(_in_a_sentence)
        self._functions = functions
        self.trains = False  # whether it has a GPU and takes retrains
        self.left_to_gpus: Set[str] = set()  # queues that it takes from only while no such worker runs
        self.lost: redis.RedisError | None = None  # why Redis could not be used

    def work_or_lose(self, **options: Any) -> redis.RedisError | None:
        """Work until told to stop; returns why Redis cannot be used where that ended the work."""
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.work(**options)
        except redis.RedisError as error:  # at the beginning or at the end
            self.lost = self.lost or error
        if self.lost is None or self._stop_requested:
            return None
        for number, handler in usual.items():  # nothing is there that would have to be stopped with care
            signal.signal(number, handler)
        if self.pubsub_thread:
            self.pubsub_thread.stop()
        return self.lost

    def _start_scheduler(self, burst: bool = False, *given: Any) -> None:
        if burst:
            super()._start_scheduler(burst, *given)
        else:
            self.scheduler = Scheduler(self.queues, connection=self.connection, serializer=self.serializer)
            self.scheduler.acquire_locks(auto_start=True)

    @property
    def _ordered_queues(self) -> list[rq.Queue]:
        """The queues to take the next job from, in this order."""
        left = self.left_to_gpus if self.left_to_gpus and self.connection.exists(GPU) else ()
        return [queue for queue in self.queues if queue.name not in left]

    @_ordered_queues.setter
    def _ordered_queues(self, queues: list[rq.Queue]) -> None:
        """RQ sets it to all queues."""

    @property
    def dequeue_timeout(self) -> int:
        return int(min(super().dequeue_timeout, WAIT_SECONDS))

    def heartbeat(self, *given: Any, **options: Any) -> None:
        with self._losing():
            super().heartbeat(*given, **options)
            if self.trains:
                self.connection.set(GPU, self.name, ex=GPU_SECONDS)

    def maintain_heartbeats(self, *given: Any, **options: Any) -> None:
        """While a job runs. It goes on without Redis, for its outcome goes to SQL; hours of training are worth that."""
        try:
            super().maintain_heartbeats(*given, **options)
        except (redis.RedisError, LostError):
            log.warning("Redis does not answer; the job goes on.")

    def check_for_suspension(self, burst: bool) -> None:
        with self._losing():
            super().check_for_suspension(burst)

    def run_maintenance_tasks(self) -> None:
        with self._losing():
            super().run_maintenance_tasks()

    def dequeue_job_and_maintain_ttl(self, *given: Any, **options: Any) -> Any:
        with self._losing():
            return super().dequeue_job_and_maintain_ttl(*given, **options)

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            self.lost = error
            raise LostError from error

    def register_death(self) -> None:
        if self.trains:
            self.connection.delete(GPU)  # another such worker's next heartbeat sets it again
        super().register_death()

    def execute_job(self, job: rq.job.Job, queue: rq.Queue) -> None:
        with self._losing():
            if problem := self._problem(job):
                log.error("The job %r is removed and was not run: %s", job.id, problem)
                job.delete()
                queue.intermediate_queue.remove(job.id)
                self._count("unknown", "refused")
            else:
                super().execute_job(job, queue)

    def _problem(self, job: rq.job.Job) -> str:
        """Why it is none of ours; empty where it is."""
        try:
            name, numbers = job.func_name, job.args
            plain = job.instance is None and not job.kwargs and all(type(each) is int for each in numbers)
        except DeserializationError:
            return "it is not JSON."
        if name not in self._functions:
            return f"it names {name!r}, which is no job of the captioner."
        return "" if plain else f"it gives {name} other arguments than numbers."

    def main_work_horse(self, job: rq.job.Job, queue: rq.Queue) -> None:
        logs.process_works_on(job=job.id)
        super().main_work_horse(job, queue)

    def handle_job_success(self, job: rq.job.Job, *given: Any, **options: Any) -> None:
        super().handle_job_success(job, *given, **options)
        self._count(job.func_name, "finished")

    def handle_job_failure(self, job: rq.job.Job, *given: Any, **options: Any) -> None:
        super().handle_job_failure(job, *given, **options)
        self._count(job.func_name, "failed")

    def _count(self, function: str, outcome: str) -> None:
        with suppress(redis.RedisError):
            self.connection.hincrby(ENDED, f"{function.rpartition('.')[2]} {outcome}")

    def handle_warm_shutdown_request(self) -> None:
        """Stop the job as well, at the first signal: a retrain may take an hour, and the next worker runs it again.

        The job gets SIGTERM first, so that it can give its retrain back.
        """
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while not self._horse_ended():
                if time.monotonic() > deadline:
                    self.kill_horse(signal.SIGKILL)
                time.sleep(0.05)

    def _horse_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.horse_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True
