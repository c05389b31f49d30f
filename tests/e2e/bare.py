"""The processes of `captioner up` beside a Label Studio that runs already: Redis, the ML backend and a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
import requests
import rq
from click.testing import CliRunner
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

import labeling_config
from backend.cli.main import main
from backend.queue import DRAFTS
from backend.reports.serving import serving
from backend.settings import Settings
from backend.store.registry import Registry
from backend.store.store import Store
from backend.system import redis_server
from backend.system.ports import free_port
from backend.system.processes import Child
from tests.e2e.stack import await_true
from tests.e2e.studio import START_SECONDS, Studio

SECONDS = 240.0  # patience where others use the machine too


class Bare:
    """Whatever dies is started again, at once: no captioner has to be loaded unless the test registers one.

    With `path` Python finds the modules of that folder first. Workers are called worker, worker-2, ... With a REDIS_URL
    all that they and the web process share is what the environment names: each worker has a data folder of its own.
    """

    def __init__(
        self, data_dir: Path, studio: Studio, workers: int = 1, path: Path | None = None, **environ: str
    ) -> None:
        self._path = path
        self._ended = threading.Event()
        self.data_dir, self.studio = data_dir, studio
        self._apart = "REDIS_URL" in environ
        self._children = {} if self._apart else {"redis": redis_server.child(data_dir)}
        self.settings = Settings.from_env(
            {
                "CAPTIONER_DATA_DIR": str(data_dir),
                "CAPTIONER_PORT": str(free_port()),
                "LABEL_STUDIO_URL": studio.url,
                "LABEL_STUDIO_API_KEY": studio.token,
                **({} if self._apart else {"REDIS_URL": str(redis_server.url(data_dir))}),
                **environ,
            }
        )
        self.client = studio.client
        self.store = Store(self.settings.database_url, data_dir)
        self.store.migrate()
        self._children["backend"] = self._command("serve", "backend", data_dir)
        for name in ("worker", *(f"worker-{number}" for number in range(2, workers + 1))):
            own = data_dir.with_name(f"{data_dir.name}-{name}") if self._apart else data_dir
            self._children[name] = self._command("worker", name, own)

    def start(self) -> None:
        for child in self._children.values():
            child.start()
        self._children["backend"].await_ready(self.is_up, START_SECONDS)
        threading.Thread(target=self._revive, daemon=True).start()

    def __enter__(self) -> Bare:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._ended.set()
        for child in reversed(self._children.values()):
            child.stop()
        self.store.close()

    def kill(self, name: str) -> bool:
        """SIGKILL it; whether it lived. The kernel ends its children."""
        process = self._children[name]._process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        return True

    def is_up(self) -> bool:
        try:
            return requests.get(f"{self.settings.backend_url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def captioner(self, *arguments: str) -> str:
        """Output of a `captioner` command with the same settings, run in this process."""
        done = CliRunner(env=self.settings.to_env()).invoke(main, list(arguments))
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.output

    def jobs(self, project: int) -> list[str]:
        """Jobs that draft the project, queued or running."""
        connection = redis.Redis.from_url(str(self.settings.redis_url))
        queue = rq.Queue(DRAFTS, connection=connection, serializer=JSONSerializer)
        found = [*queue.job_ids, *StartedJobRegistry(queue=queue).get_job_ids()]
        return [job for job in found if job.startswith(f"refresh-{project}-")]

    def project_status(self, project: int) -> dict[str, Any]:
        found = json.loads(self.captioner("status", "--json"))
        return next(each for each in found["projects"] if each["id"] == project)

    def open_project(self, title: str, images: Sequence[Path], version: str) -> tuple[int, list[int]]:
        """A project with a task for each image, and their ids; returns when every web process serves the version."""
        project = int(self.client.create_project(title, labeling_config.shipped("caption"))["id"])
        tasks = self.client.upload_images(project, list(images))
        Registry(self.store).promote(project, version, reason="for a test", by="test")
        self.captioner("connect", "--project", str(project))
        # several are asked, as it happens, where there are several
        await_true(lambda: all(self._serves(project) for _ in range(8)), SECONDS, "the champion in each process")
        return project, tasks

    def drafts(self, project: int, version: str | None = None) -> dict[int, str]:
        """By task the text of its prediction in Label Studio, of the version or of any."""
        found = self.client.predictions(project_id=project)
        return {
            each["task"]: each["result"][0]["value"]["text"][0]
            for each in found
            if each["result"] and version in {None, each["model_version"]}
        }

    def _serves(self, project: int) -> bool:
        return str(project) in (serving(self.settings) or {}).get("serving", {})

    def _environ(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, filter(None, [self._path, os.environ.get("PYTHONPATH")])))
        return {**os.environ, **self.settings.to_env(), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}

    def _command(self, command: str, name: str, data_dir: Path) -> Child:
        argv = [sys.executable, "-P", "-m", "backend.cli", command, "--data-dir", str(data_dir)]
        return Child(command, argv, self.data_dir / "logs" / f"{name}.log", self._environ())

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """A `captioner` command in a process of its own, whose output can be read."""
        argv = [sys.executable, "-P", "-m", "backend.cli", *arguments]
        return subprocess.Popen(argv, env=self._environ(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def _revive(self) -> None:
        while not self._ended.wait(0.2):
            for child in self._children.values():
                if not child.alive and not self._ended.is_set():
                    child.start()
