"""Measures how fast webhooks are committed and answered while the worker trains and drafts are requested.

    python -m benchmarks.webhook [--quick]

Runs `captioner up --no-label-studio` over a temporary folder: the backend under gunicorn, the embedded Redis, a worker.
Corrections arrive at a steady pace, each over a connection of its own, as Label Studio sends them. Some make the
next retrain due, and new tasks are drafted throughout. Only webhooks sent during a retrain count. Label Studio sends a
webhook once, inside the annotator's request, and waits one second for the answer.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import requests

import labeling_config
from backend.settings import loopback_without_proxy
from backend.store.retrains import Retrain
from backend.store.store import Store
from backend.system.ports import free_port
from backend.up.launch import Launch
from benchmarks.loop import _captioner, _created
from benchmarks.report import percentile, report
from benchmarks.server import PROJECT, images, predict_request, served_version, task, wait_until
from training.data import manifest
from training.data.scenes import write

LIMIT_MS = 1000.0
GREATEST_WAIT_SECONDS = 30.0
SENDERS = 16  # annotators who submit at once, at most
MEANINGS = {
    "ack_p50_ms": "ms until a webhook is committed and answered, median (wanted: 20)",
    "ack_p99_ms": "ms, 99th percentile (wanted: 100)",
    "ack_max_ms": "ms, the slowest",
    "label_studio_limit_ms": "ms, after which Label Studio gives up and the event is lost",
    "acks": "webhooks answered while a retrain ran",
    "acks_idle_p50_ms": "ms, median before any retrain and without predictions",
    "commit_p50_ms": "ms, of that the time of an equal commit to the same disk by another process",
    "retrains": "retrains during which they were sent",
    "drafts_beside": "drafts made meanwhile",
    "load_average": "processes that wanted a core at the end (1 min); others measure on this machine too",
}


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run: few webhooks.")
def main(quick: bool) -> None:
    wanted, every, tasks = (40, 8, 80) if quick else (600, 25, 800)
    loopback_without_proxy()
    with tempfile.TemporaryDirectory(prefix="captioner-webhook-") as name:
        folder = Path(name)
        rows = manifest.load(write(folder / "scenes", tasks, seed=11, world="full"))
        checkpoint = _captioner(folder, epochs=1)
        flags = ["--no-label-studio", "--checkpoint", str(checkpoint), "--port", str(free_port())]
        flags += ["--retrain-every", str(every)]
        with images(folder / "scenes") as port:
            environ = {"CAPTIONER_IMAGE_HOSTS": f"127.0.0.1:{port}", "CAPTIONER_PROMOTION": "manual"}
            with Launch(folder / "data", *flags, environ=environ, output=sys.stderr) as state:
                load = _Load(state["backend_url"], f"http://127.0.0.1:{port}", rows)
                figures = _measure(load, folder / "data", wanted, every)
    report("webhook", figures, MEANINGS)


@dataclass
class _Load:
    """Sends the requests of Label Studio to the backend at `url`; image `n` of the scenes is task n + 1."""

    url: str
    images: str
    rows: Sequence[manifest.Row]
    acks: list[tuple[datetime, float]] = field(default_factory=list)
    drafted: list[datetime] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def task(self, number: int) -> dict[str, Any]:
        return task(number + 1, f"{self.images}/{self.rows[number].image.name}")

    def correct(self, number: int) -> None:
        """Send correction `number`, a new one; images repeat."""
        scene = number % (len(self.rows) // 2)
        project = {"id": PROJECT, "label_config": labeling_config.shipped("caption")}
        event = _created(number, self.task(scene), self.rows[scene].references[0], project)
        sent, begun = datetime.now(UTC), time.perf_counter()
        requests.post(f"{self.url}/webhook", json=event, timeout=GREATEST_WAIT_SECONDS).raise_for_status()
        self.acks.append((sent, 1000 * (time.perf_counter() - begun)))

    def draft(self) -> None:
        """Request drafts of the second half's tasks, one after another and over and over, until told to stop."""
        half = len(self.rows) // 2
        number = 0
        while not self.stopping.is_set():
            new = {**self.task(half + number % half), "id": 1_000_000 + number}  # one each time
            requests.post(f"{self.url}/predict", json=predict_request([new]), timeout=100).raise_for_status()
            self.drafted.append(datetime.now(UTC))
            number += 1


def _measure(load: _Load, data_dir: Path, wanted: int, every: int) -> dict[str, float]:
    store = Store(f"sqlite:///{data_dir / 'captioner.db'}")
    served_version(load.url)
    for number in range(every - 1):
        load.correct(number)
    idle = [milliseconds for _, milliseconds in load.acks]
    commits = _commits(data_dir, len(idle))
    drafting = threading.Thread(target=load.draft, daemon=True)
    drafting.start()
    counted: list[float] = []
    number = every - 1
    deadline = time.monotonic() + (240 if wanted < 100 else 540)
    with ThreadPoolExecutor(SENDERS) as senders:
        while len(counted) < wanted and time.monotonic() < deadline:
            pace = time.monotonic() + 5.0
            for sending in [senders.submit(_later, load, number + n, pace - 5.0 + n / 10) for n in range(50)]:
                sending.result()
            number += 50
            counted = [milliseconds for at, milliseconds in load.acks if _ran(store.retrains(PROJECT, 1000), at)]
    ran = [each for each in store.retrains(PROJECT, 1000) if each.started_at]
    load.stopping.set()
    drafting.join()
    wait_until(lambda: bool(ran), 1, "a retrain")
    if not counted:
        raise click.ClickException("No retrain ran while webhooks were sent; look at the worker's log.")
    beside = sum(_ran(ran, at) for at in load.drafted)
    return {
        "ack_p50_ms": statistics.median(counted),
        "ack_p99_ms": percentile(counted, 0.99),
        "ack_max_ms": max(counted),
        "label_studio_limit_ms": LIMIT_MS,
        "acks": len(counted),
        "acks_idle_p50_ms": statistics.median(idle),
        "commit_p50_ms": statistics.median(commits),
        "retrains": len(ran),
        "drafts_beside": beside,
        "load_average": os.getloadavg()[0],
    }


def _later(load: _Load, number: int, at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))
    load.correct(number)


def _ran(retrains: Sequence[Retrain], at: datetime) -> bool:
    """Whether one of the retrains ran then."""
    return any(
        r.started_at is not None and r.started_at <= at and (not r.ended_at or at <= r.ended_at) for r in retrains
    )


def _commits(folder: Path, count: int) -> list[float]:
    """Milliseconds of commits of one small row to another database on the same disk."""
    store = Store(f"sqlite:///{folder / 'beside.db'}")
    store.migrate()
    found = []
    for number in range(count):
        begun = time.perf_counter()
        store.save_project(number + 1, "<View/>")
        found.append(1000 * (time.perf_counter() - begun))
    return found


if __name__ == "__main__":
    main()
