"""A real Redis, real databases, and what a retrain needs: pictures, a champion, workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from backend.corrections.inbox import Inbox
from backend.domain.corrections import Correction, Event
from backend.images.sharing import Sharing
from backend.queue import Queue
from backend.serving.champions import Champions
from backend.settings import Settings
from backend.store.database import now
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.retrains import Retrain
from backend.store.store import Store
from backend.store.tables import retrains
from backend.web.watcher import Watcher
from benchmarks.services import S3, PostgreSQL, Redis
from tests import factories
from tests.fakes import Answer, Host, host
from tests.pictures import Pictures
from tests.system import need
from training.data import manifest

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 120.0


def wait_for(condition: Callable[[], object], what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until the condition holds; fails when it takes too long, or the process it waits for has ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_SECONDS:g} s"
        assert process is None or process.poll() is None, f"{what}: the process ended with {process.returncode}"
        time.sleep(0.02)


def start_worker(settings: Settings, burst: bool, epochs: int | None = None) -> subprocess.Popen[bytes]:
    """A worker as a process of its own; with `epochs`, its retrains are as long as that."""
    program = f"import sys; from backend.queue import Queue; Queue(sys.argv[1]).work(burst={burst})"
    if epochs is not None:
        longer = "from training.config import TrainingConfig; usual = TrainingConfig.retraining; "
        program = f"{longer}TrainingConfig.retraining = lambda *given: usual(*given, epochs={epochs}); {program}"
    environ = {**os.environ, **settings.to_env(), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(settings.redis_url)]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """Address of an embedded Redis on a Unix socket."""
    with Redis() as server:
        yield server.url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The same Redis, emptied."""
    redis.Redis.from_url(redis_server).flushall()
    return redis_server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """A throw-away PostgreSQL cluster."""
    need("postgresql")
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: PostgreSQL) -> Iterator[str]:
    """Address of a new database in it."""
    name = postgresql_server.create("test")
    yield postgresql_server.url(name)
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an empty bucket of an S3 server on this machine, which the environment names."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with S3() as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield server.url


@dataclass
class Loop:
    """The services of a backend whose Label Studio serves pictures, and workers as processes of their own."""

    settings: Settings
    pictures: Pictures
    studio: Host
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.settings.database_url)
        self.store.migrate()
        self.registry = Registry(self.store)
        self.queue = Queue(self.settings.redis_url)
        self.inbox = Inbox(self.store, self.queue, self.settings)
        self.sharing = Sharing(self.settings, self.store)
        self.champions = Champions(self.settings.device, fetch=self.sharing.fetch)
        self.reuse = None
        self.watcher = Watcher(self)

    def serve_starter(self) -> None:
        """Register the small captioner as the default champion."""
        self.registry.register(ModelVersion("starter", self.pictures.captioner, manifest=self.pictures.manifest))
        self.registry.promote(DEFAULT, "starter", "chosen as default", "operator")

    def correct(self, rows: list[manifest.Row], first: int = 1, **fields: object) -> Event:
        """Have an annotator caption these pictures as tasks `first`, …: the event goes through the inbox."""
        corrections: list[Correction] = []
        for number, row in enumerate(rows, start=first):
            self.studio.answers[f"/data/upload/1/{number}.jpg"] = Answer(body=row.image.read_bytes())
            corrections.append(factories.correction(number, row.references[0], **fields))
        event = factories.saved(*corrections, action="ANNOTATIONS_CREATED")
        self.inbox.receive(event)
        return event

    def work(self, epochs: int | None = None) -> subprocess.Popen[bytes]:
        """Start a worker that ends when nothing is queued."""
        worker = start_worker(self.settings, burst=True, epochs=epochs)
        self.workers.append(worker)
        return worker

    def horse(self, worker: subprocess.Popen[bytes]) -> int:
        """Process id of the work-horse that the worker has forked."""
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        assert len(children) == 1
        return int(children[0])

    def wait_until_training(self, worker: subprocess.Popen[bytes]) -> Retrain:
        def trains() -> bool:
            newest = self.store.retrains(1, limit=1)
            return bool(newest) and newest[0].progress.get("phase") == "train"

        wait_for(trains, "a retrain that trains", worker)
        return self.store.retrains(1, limit=1)[0]

    def age_heartbeat(self, retrain: Retrain) -> None:
        """As if half a minute had passed since the retrain was last heard of."""
        with self.store.writing(retrain.project_id) as connection:
            old = now() - timedelta(seconds=31)
            connection.execute(retrains.update().where(retrains.c.id == retrain.id).values(heartbeat_at=old))

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        self.store.close()


@pytest.fixture
def make_loop(tmp_path: Path, redis_url: str, pictures: Pictures) -> Iterator[Callable[..., Loop]]:
    """Loops over one data folder; keywords are environment variables. Nothing is rehearsed unless it is asked for."""
    made: list[Loop] = []
    with host() as studio:

        def make(**environ: str) -> Loop:
            usual = {"LABEL_STUDIO_URL": studio.url, "CAPTIONER_DEVICE": "cpu", "CAPTIONER_REPLAY": "0"}
            given = {"REDIS_URL": redis_url, **usual, **environ}
            loop = Loop(factories.settings(tmp_path / "data", **given), pictures, studio)
            made.append(loop)
            return loop

        yield make
        for loop in made:
            loop.close()
