"""Measures how fast `captioner preannotate` drafts a project in a real Label Studio, and what a killed worker costs.

    python -m benchmarks.preannotate --data FLICKR8K [--tasks 2000] [--quick]

Starts Label Studio as `captioner up` does, uploads as many photographs of Flickr8k, each once, and has the starter
draft them three times, each time in a new project and with a data folder of its own, so that nothing is cached: by one
worker, by two workers, and by two of which one is killed in the middle (kill -9). The seconds run from the command to
its end; in them each worker loads torch and the captioner. Label Studio and the workers share the machine.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

import labeling_config
from backend.label_studio.client import LabelStudio
from backend.settings import Settings, loopback_without_proxy
from backend.store.registry import Registry
from backend.store.store import Store
from backend.system import redis_server
from backend.system.ports import free_port, is_healthy
from backend.system.processes import Child
from backend.up import label_studio_server
from benchmarks.preannotate_worker import NOTES
from benchmarks.report import report
from benchmarks.server import largest_below, resident, wait_until

START_SECONDS, LIMIT_SECONDS = 300.0, 3600.0
KILLED_AT = 0.3  # of the tasks
MEANINGS = {
    "tasks": "unlabelled tasks of a project, one photograph each",
    "one_worker_drafts_a_second": "drafts a second with one worker, from the command to its end",
    "two_workers_drafts_a_second": "drafts a second with two workers",
    "two_over_one": "two workers over one, on the cores there are",
    "longest_request_seconds": "s, the longest request to Label Studio in all three runs (wanted: 10)",
    "requests": "requests to Label Studio in all three runs",
    "worker_peak_mib": "MiB resident, the largest job of a worker at its peak",
    "killed_drafts_a_second": "drafts a second with two workers of which one was killed",
    "killed_drafted_twice": "tasks with two drafts in the database, after that (wanted: 0)",
    "killed_stored_twice": "tasks with two predictions in Label Studio (wanted: 0)",
    "killed_left_out": "tasks with neither a prediction nor a reason why there is none (wanted: 0)",
    "load_average": "processes that wanted a core at the end (1 min); others may measure on this machine too",
}


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="Folder of Flickr8k.")
@click.option("--tasks", type=click.IntRange(10), default=2000, show_default=True)
@click.option("--quick", is_flag=True, help="A smoke run: few tasks.")
def main(data: Path, tasks: int, quick: bool) -> None:
    photos = _photos(data, 120 if quick else tasks)
    loopback_without_proxy()
    with tempfile.TemporaryDirectory(prefix="captioner-preannotate-") as name, _label_studio(Path(name)) as found:
        studio, token = found
        first = _new_project(studio)
        studio.upload_images(first, photos)
        images = [task["data"] for task in studio.tasks(first)]
        runs = [_Run(Path(name) / "one", studio, token, first, 1)]
        runs[0].measure()
        for folder, killed in (("two", False), ("killed", True)):
            project = _new_project(studio)
            studio.post(f"/api/projects/{project}/import", [{"data": image} for image in images])
            runs.append(_Run(Path(name) / folder, studio, token, project, 2, killed))
            runs[-1].measure()
    one, two, killed_run = runs
    report(
        "preannotate",
        {
            "tasks": len(photos),
            "one_worker_drafts_a_second": one.drafts / one.seconds,
            "two_workers_drafts_a_second": two.drafts / two.seconds,
            "two_over_one": (two.drafts / two.seconds) / (one.drafts / one.seconds),
            "longest_request_seconds": max(max(run.requests) for run in runs),
            "requests": sum(len(run.requests) for run in runs),
            "worker_peak_mib": max(run.peak for run in runs) / 2**20,
            "killed_drafts_a_second": killed_run.drafts / killed_run.seconds,
            "killed_drafted_twice": killed_run.drafted_twice,
            "killed_stored_twice": killed_run.stored_twice,
            "killed_left_out": killed_run.left_out,
            "load_average": os.getloadavg()[0],
        },
        MEANINGS,
    )


def _photos(data: Path, count: int) -> list[Path]:
    from training.data import datasets

    photos = list(dict.fromkeys(row.image for row in datasets.read("flickr8k", data)))
    if len(photos) < count:
        raise click.UsageError(f"{data} holds {len(photos)} photographs, and no task may repeat one: ask for fewer.")
    return photos[:count]


@contextmanager
def _label_studio(folder: Path) -> Iterator[tuple[LabelStudio, str]]:
    """A client of it, and the token of its only user."""
    if not label_studio_server.is_installed():
        label_studio_server.install(folder / "logs" / "install.log")
    account, port = label_studio_server.login(folder), free_port()
    server = label_studio_server.child(folder, port, account)
    server.start()
    try:
        url = f"http://127.0.0.1:{port}"
        server.await_ready(lambda: is_healthy(url), START_SECONDS)
        yield LabelStudio(url, account.token), account.token
    finally:
        server.stop()


def _new_project(studio: LabelStudio) -> int:
    return int(studio.create_project("preannotated", labeling_config.shipped("caption"))["id"])


@dataclass
class _Run:
    """One project drafted by so many workers over a data folder of their own."""

    folder: Path
    studio: LabelStudio
    token: str
    project: int
    workers: int
    killed: bool = False
    seconds: float = 0.0
    drafts: int = 0
    peak: float = 0.0
    requests: list[float] = field(default_factory=list)
    drafted_twice: int = 0
    stored_twice: int = 0
    left_out: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def measure(self) -> None:
        server = redis_server.child(self.folder)
        self.settings = Settings.from_env(
            {
                "CAPTIONER_DATA_DIR": str(self.folder),
                "CAPTIONER_PORT": str(free_port()),
                "CAPTIONER_RETRAIN_EVERY": "0",
                "CAPTIONER_RECONCILE_SECONDS": "1000000",
                "LABEL_STUDIO_URL": self.studio.url,
                "LABEL_STUDIO_API_KEY": self.token,
                "REDIS_URL": str(redis_server.url(self.folder)),
            }
        )
        self.store = Store(self.settings.database_url)
        self.store.migrate()
        web = self._child("serve", "backend.cli", "serve")
        workers = [self._child(f"worker-{n}", "benchmarks.preannotate_worker") for n in range(self.workers)]
        started = [server, web, *workers]
        try:
            for each in started:
                each.start()
            web.await_ready(lambda: is_healthy(self.settings.backend_url), START_SECONDS)
            self._command("connect", "--project", str(self.project)).wait()
            self._draft(workers)
        finally:
            self._ended.set()
            for each in reversed(started):
                each.stop()
        self._count()
        self.store.close()

    def _draft(self, workers: Sequence[Child]) -> None:
        threading.Thread(target=self._watch, args=[[each.pid for each in workers]], daemon=True).start()
        begun = time.monotonic()
        command = self._command("preannotate", "--project", str(self.project))
        if self.killed:
            state = self.store.refresh_state
            wait_until(lambda: state(self.project).checked > 0, LIMIT_SECONDS, "the first drafts", 0.2)
            total = state(self.project).total
            wait_until(lambda: state(self.project).checked >= KILLED_AT * total, LIMIT_SECONDS, "more drafts", 0.2)
            os.kill(workers[0].pid, signal.SIGKILL)  # the kernel ends the job with it
        if command.wait(LIMIT_SECONDS):
            raise click.ClickException(f"The drafting failed: {self.store.refresh_state(self.project).failure}")
        self.seconds = time.monotonic() - begun

    def _count(self) -> None:
        champion = Registry(self.store).champion(self.project)
        assert champion
        refused = {failure.task_id for failure in self.store.failures(self.project, limit=1_000_000)}
        unreadable = set[int]()
        after, found = 0, True
        while found:
            tasks, _ = self.studio.unlabelled(self.project, after, 250, unreadable)
            made = Counter(draft.task_id for draft in self._drafts([task["id"] for task in tasks], champion.name))
            for task in tasks:
                held = sum(each["model_version"] == champion.name for each in task["predictions"])
                self.drafts += held > 0
                self.stored_twice += held > 1
                self.drafted_twice += made[task["id"]] > 1
                self.left_out += held == 0 and task["id"] not in refused
            found = bool(tasks)
            after = tasks[-1]["id"] if tasks else after
        notes = (self.folder / NOTES).read_text().splitlines()
        self.requests = [float(line.split()[0]) for line in notes if re.match(r"\d", line)]

    def _drafts(self, task_ids: Sequence[int], version: str) -> list[Any]:
        return self.store.get_drafts(self.project, task_ids, version)

    def _watch(self, pids: Sequence[int]) -> None:
        while not self._ended.wait(0.2):
            self.peak = max(self.peak, *(resident(largest_below(pid)) for pid in pids))

    def _child(self, name: str, *module: str) -> Child:
        argv = [sys.executable, "-P", "-m", *module]
        environ = {**os.environ, **self.settings.to_env(), "PYTHONPATH": str(Path(__file__).parents[1])}
        return Child(name, argv, self.folder / "logs" / f"{name}.log", environ)

    def _command(self, *arguments: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-P", "-m", "backend.cli", *arguments]
        return subprocess.Popen(argv, env={**os.environ, **self.settings.to_env()}, stdout=sys.stderr)


if __name__ == "__main__":
    main()
