"""Times the steps of the loop over HTTP: drafts, webhooks, a retrain on 50 corrections, promotion.

    python -m benchmarks.loop [--quick]

Runs `captioner up --no-label-studio` over a temporary folder and sends it the requests of Label Studio. Label Studio's
own time limits are given beside the figures.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import requests

import labeling_config
from backend.store.registry import Registry
from backend.store.retrains import DONE
from backend.store.store import Store
from backend.system.ports import free_port
from backend.up.launch import Launch
from benchmarks.report import percentile, report
from benchmarks.server import PROJECT, images, predict_request, setup_request, task, wait_until
from training.data import manifest
from training.data.scenes import write

MEANINGS = {
    "draft_one_ms": "ms, /predict of one new task, median (Label Studio waits 100 s)",
    "draft_batch_seconds": "s, /predict of the batch of new tasks in one request (Label Studio waits 100 s)",
    "draft_batch_tasks": "tasks in that batch",
    "one_by_one_over_batch": "time of as many single requests over the batch's",
    "redraft_batch_seconds": "s, the same batch again: drafts come from SQL",
    "webhook_ack_p50_ms": "ms, webhook committed and answered (Label Studio waits 1 s)",
    "webhook_ack_p99_ms": "ms, the slowest of a hundred",
    "asked_to_queued_ms": "ms, Start Training until the retrain is queued",
    "queued_to_running_seconds": "s, until the worker has begun",
    "retrain_corrections": "corrections of the retrain",
    "retrain_seconds": "s, the whole retrain: snapshot, training, evaluation of both, gate",
    "health_during_retrain_p99_ms": "ms, /health meanwhile (Label Studio waits 1 s)",
    "promotion_to_served_ms": "ms, from the alias row to the answer of /setup, median",
}


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run: few tasks, a barely trained captioner.")
def main(quick: bool) -> None:
    batch, corrections, singles = (12, 6, 4) if quick else (100, 50, 30)
    with tempfile.TemporaryDirectory(prefix="captioner-loop-") as name:
        folder = Path(name)
        rows = manifest.load(write(folder / "scenes", batch + singles + corrections, seed=7, world="full"))
        checkpoint = _captioner(folder, epochs=1 if quick else 8)
        flags = ["--no-label-studio", "--checkpoint", str(checkpoint), "--port", str(free_port())]
        flags += ["--retrain-every", "0"]
        with images(folder / "scenes") as port:
            environ = {"CAPTIONER_IMAGE_HOSTS": f"127.0.0.1:{port}", "CAPTIONER_PROMOTION": "manual"}
            environ["CAPTIONER_BLIND_SHARE"] = "0"  # every task is to be drafted
            with Launch(folder / "data", *flags, environ=environ, output=sys.stderr) as state:
                figures = _measure(state["backend_url"], port, folder, rows, batch, singles, corrections)
    report("loop", figures, MEANINGS)


def _captioner(folder: Path, epochs: int) -> Path:
    """A captioner as fast as the starter model; its quality does not matter here."""
    from training.config import TrainingConfig
    from training.learning.train import train

    rows = manifest.load(write(folder / "starter", 200, seed=1))
    return train(rows, folder / "captioner", TrainingConfig.starter(epochs=epochs), cache_dir=folder / "cache")


def _measure(
    url: str, port: int, folder: Path, rows: list[manifest.Row], batch: int, singles: int, corrections: int
) -> dict[str, float]:
    data_dir = folder / "data"
    store = Store(f"sqlite:///{data_dir / 'captioner.db'}")
    registry = Registry(store)
    label_config = labeling_config.shipped("caption")
    session = requests.Session()

    def post(path: str, body: dict[str, Any]) -> Any:
        answer = session.post(url + path, json=body, timeout=120)
        answer.raise_for_status()
        return answer.json()

    def tasks(first: int, count: int) -> list[dict[str, Any]]:
        return [task(n + 1, f"http://127.0.0.1:{port}/{rows[n].image.name}") for n in range(first, first + count)]

    def predict(some: list[dict[str, Any]]) -> float:
        begun = time.perf_counter()
        answer = post("/predict", predict_request(some))
        assert all(found.get("result") for found in answer["results"]), "a task got no draft"
        return time.perf_counter() - begun

    setup = setup_request()
    first = registry.champions()[0]
    wait_until(lambda: post("/setup", setup)["model_version"] == first, 30, "the captioner to be loaded")
    predict(tasks(batch, 1))  # the first call of all pays for what torch sets up
    one = [predict(tasks(batch + n, 1)) for n in range(1, singles)]
    together = predict(tasks(0, batch))
    again = predict(tasks(0, batch))

    project = {"id": PROJECT, "label_config": label_config}
    acks = []
    for n in range(corrections):
        event = _created(n, tasks(batch + singles + n, 1)[0], rows[batch + singles + n].references[0], project)
        begun = time.perf_counter()
        post("/webhook", event)
        acks.append(time.perf_counter() - begun)
    asked_at = datetime.now(UTC)
    _start_training(url)
    retrain = store.retrains(PROJECT)[0]
    health: list[float] = []

    def ended() -> bool:
        begun = time.perf_counter()
        requests.get(f"{url}/health", timeout=10).raise_for_status()
        health.append(time.perf_counter() - begun)
        return not store.retrains(PROJECT)[0].active

    wait_until(ended, 600, "the retrain")
    done = store.retrains(PROJECT)[0]
    if done.state != DONE or not done.version or not done.started_at or not done.seconds:
        raise click.ClickException(f"The retrain failed: {done.outcome}")
    swaps = []
    for version in (done.version, first) * 3:
        begun = time.perf_counter()
        registry.promote(PROJECT, version, reason="benchmark", by="benchmark")
        wait_until(lambda wanted=version: post("/setup", setup)["model_version"] == wanted, 60, "the swap", 0.005)  # type: ignore[misc]
        swaps.append(time.perf_counter() - begun)
    return {
        **_drafting(one, batch, together),
        "redraft_batch_seconds": again,
        "webhook_ack_p50_ms": 1000 * statistics.median(acks),
        "webhook_ack_p99_ms": 1000 * percentile(acks, 0.99),
        "asked_to_queued_ms": 1000 * (retrain.requested_at - asked_at).total_seconds(),
        "queued_to_running_seconds": (done.started_at - done.requested_at).total_seconds(),
        "retrain_corrections": corrections,
        "retrain_seconds": done.seconds,
        "health_during_retrain_p99_ms": 1000 * percentile(health, 0.99),
        "promotion_to_served_ms": 1000 * statistics.median(swaps),
    }


def _start_training(url: str) -> None:
    """What Label Studio sends when a person presses Start Training."""
    body = {"action": "START_TRAINING", "project": {"id": PROJECT}}
    requests.post(f"{url}/webhook", json=body, timeout=30).raise_for_status()


def _drafting(singles: Sequence[float], tasks: int, together: float) -> dict[str, float]:
    """Seconds of drafting tasks one by one over those of drafting as many in one request."""
    one = statistics.median(singles)
    return {
        "draft_one_ms": 1000 * one,
        "draft_batch_seconds": together,
        "draft_batch_tasks": tasks,
        "one_by_one_over_batch": one * tasks / together,
    }


def _created(number: int, task: dict[str, Any], caption: str, project: dict[str, Any]) -> dict[str, Any]:
    """ANNOTATION_CREATED as Label Studio sends it."""
    moment = datetime.now(UTC).isoformat()
    result = {
        "id": f"bench{number:05d}",
        "from_name": "caption",
        "to_name": "image",
        "type": "textarea",
        "value": {"text": [caption]},
        "origin": "manual",
    }
    annotation = {"id": number + 1, "task": task["id"], "project": PROJECT, "result": [result], "was_cancelled": False}
    times = {"created_at": moment, "updated_at": moment}
    return {"action": "ANNOTATION_CREATED", "annotation": {**annotation, **times}, "task": task, "project": project}


if __name__ == "__main__":
    main()
