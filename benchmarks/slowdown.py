"""Measures how much slower drafts are while the worker trains on the same device.

    python -m benchmarks.slowdown [--quick] [--rounds N]

Runs `captioner up --no-label-studio` over a temporary folder, as `benchmarks.webhook` does, and requests drafts of new
images one after another at a steady pace: before, during and after a retrain, so that other load on the machine affects
both figures. No image is requested twice, because drafts and image files are cached.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
import requests

from backend.settings import loopback_without_proxy
from backend.store.retrains import DONE, RUNNING, Retrain
from backend.store.store import Store
from backend.system.ports import free_port
from backend.up.launch import Launch
from benchmarks.loop import _captioner, _start_training
from benchmarks.report import percentile, report
from benchmarks.server import PROJECT, images, predict_request, served_version, wait_until
from benchmarks.webhook import _Load
from training.data import manifest
from training.data.scenes import write

PACE_SECONDS = 0.25
"""Time from one request to the next, unless the answer takes longer, so that drafts themselves are a small load."""
RETRAIN_SECONDS = 600
WARM_UP = 5
MEANINGS = {
    "predict_idle_p50_ms": "ms, /predict of one new image while nothing is trained, median",
    "predict_idle_p95_ms": "ms, 95th percentile",
    "predict_training_p50_ms": "ms, the same while a retrain runs",
    "predict_training_p95_ms": "ms, 95th percentile",
    "predict_slowdown": "times as long while a retrain runs, medians",
    "predict_slowdown_p95": "times as long, 95th percentiles",
    "idle_predictions": "requests of the first kind",
    "training_predictions": "requests of the second, begun and answered during a retrain",
    "retrains": "retrains during which they were sent",
    "retrain_seconds": "s, a retrain beside them, median",
    "load_average": "processes that wanted a core at the end (1 min); what else is measured on this machine counts too",
}


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run: one short retrain.")
@click.option("--rounds", default=4, show_default=True, help="Retrains, with idle times between them.")
def main(quick: bool, rounds: int) -> None:
    rounds, idle, beside, corrections = (1, 5, 20, 8) if quick else (rounds, 60, 150, 50)
    scenes = 2 * max(WARM_UP + (rounds + 1) * idle + rounds * beside, rounds * corrections)
    loopback_without_proxy()
    with tempfile.TemporaryDirectory(prefix="captioner-slowdown-") as name:
        folder = Path(name)
        rows = manifest.load(write(folder / "scenes", scenes, seed=13, world="full"))
        flags = ["--no-label-studio", "--checkpoint", str(_captioner(folder, epochs=1)), "--port", str(free_port())]
        flags += ["--retrain-every", "0"]
        with images(folder / "scenes") as port:
            environ = {"CAPTIONER_IMAGE_HOSTS": f"127.0.0.1:{port}", "CAPTIONER_PROMOTION": "manual"}
            environ["CAPTIONER_BLIND_SHARE"] = "0"  # every task is to be drafted
            environ["CAPTIONER_REPLAY"] = "0" if quick else "1"
            with Launch(folder / "data", *flags, environ=environ, output=sys.stderr) as state:
                load = _Load(state["backend_url"], f"http://127.0.0.1:{port}", rows)
                store = Store(f"sqlite:///{folder / 'data' / 'captioner.db'}")
                figures = _Measurement(load, store, rounds, idle, beside, corrections).run()
    report("slowdown", figures, MEANINGS)


@dataclass
class _Measurement:
    """The first half of the images is corrected, `corrections` a round. The second half is drafted, each image once:
    `idle` of them before every round and after the last, at most `beside` during a retrain."""

    load: _Load
    store: Store
    rounds: int
    idle: int
    beside: int
    corrections: int
    drafted: int = 0
    corrected: int = 0
    undisturbed: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)

    def run(self) -> dict[str, float]:
        served_version(self.load.url)
        for _ in range(WARM_UP):  # the first requests of all pay for what torch sets up
            self._draft()
        for _ in range(self.rounds):
            self.undisturbed += [self._draft() for _ in range(self.idle)]
            self._retrain()
        self.undisturbed += [self._draft() for _ in range(self.idle)]
        if not self.disturbed:
            raise click.ClickException("No draft was made during a retrain; look at the worker's log.")
        ran = self.store.retrains(PROJECT, 1000)
        figures = {}
        for name, found in (("idle", self.undisturbed), ("training", self.disturbed)):
            figures[f"predict_{name}_p50_ms"] = statistics.median(found)
            figures[f"predict_{name}_p95_ms"] = percentile(found, 0.95)
        return figures | {
            "predict_slowdown": figures["predict_training_p50_ms"] / figures["predict_idle_p50_ms"],
            "predict_slowdown_p95": figures["predict_training_p95_ms"] / figures["predict_idle_p95_ms"],
            "idle_predictions": len(self.undisturbed),
            "training_predictions": len(self.disturbed),
            "retrains": len(ran),
            "retrain_seconds": statistics.median(retrain.seconds or 0.0 for retrain in ran),
            "load_average": os.getloadavg()[0],
        }

    def _retrain(self) -> None:
        """Send corrections, start a retrain, and request drafts until it ends."""
        for _ in range(self.corrections):
            self.load.correct(self.corrected)
            self.corrected += 1
        _start_training(self.load.url)
        wait_until(lambda: self._newest().state == RUNNING, 60, "the retrain to begin")
        asked, deadline = 0, time.monotonic() + RETRAIN_SECONDS
        while self._newest().active and time.monotonic() < deadline:
            if asked == self.beside:
                time.sleep(PACE_SECONDS)
                continue
            milliseconds, asked = self._draft(), asked + 1
            if self._newest().state == RUNNING:
                self.disturbed.append(milliseconds)
        if self._newest().state != DONE:
            raise click.ClickException(f"The retrain did not get done: {self._newest().outcome}")

    def _newest(self) -> Retrain:
        return self.store.retrains(PROJECT, 1)[0]

    def _draft(self) -> float:
        """Milliseconds of the next image's draft; waits for its turn at the pace."""
        half = len(self.load.rows) // 2
        body = predict_request([self.load.task(half + self.drafted)])
        self.drafted += 1
        begun = time.perf_counter()
        answer = requests.post(f"{self.load.url}/predict", json=body, timeout=100)
        seconds = time.perf_counter() - begun
        answer.raise_for_status()
        if not answer.json()["results"][0]:
            raise click.ClickException("A task got no draft; look at the backend's log.")
        time.sleep(max(0.0, PACE_SECONDS - seconds))
        return 1000 * seconds


if __name__ == "__main__":
    main()
