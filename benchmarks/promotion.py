"""Versions promoted and rolled back while requests go on: does any fail, does any answer mix two versions?

    python -m benchmarks.promotion [--rate 50] [--seconds 40] [--quick]

Runs `captioner up --no-label-studio` over a temporary folder, with a captioner of some 70 MB. Requests come at a
steady pace, each over a connection of its own as Label Studio sends them, whether earlier ones have been answered or
not; each asks for drafts of four of forty tasks, so that after every move of the champion all of them are drafted anew
and then come from SQL. Meanwhile the champion moves four times. Afterwards every draft is compared with the caption of
its version.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import click
import requests

from backend.settings import loopback_without_proxy
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from backend.system.ports import free_port
from backend.up.launch import Launch
from benchmarks.report import percentile, report
from benchmarks.server import (
    PROJECT,
    images,
    largest_below,
    predict_request,
    resident,
    served_version,
    task,
    wait_until,
)
from training.captioner import checkpoint
from training.config import DecoderConfig, TrainingConfig
from training.data import manifest
from training.data.scenes import write
from training.learning.train import train

TASKS, ASKED = 40, 4
MOVES = 4
SENDERS = 64  # requests on their way at once, at most
PATIENCE = 10  # times the wanted seconds, on a machine that does other things
MEANINGS = {
    "requests": "sent",
    "requests_per_second": "sent a second (wanted: 50)",
    "failed": "not answered with 200 and a draft for each task (target: 0)",
    "mixed": "answers with more than one version, or a draft that its version does not say (target: 0)",
    "moves": "promotions and rollbacks meanwhile",
    "swap_seconds": "s, from the row in SQL to the first answer of the version, median",
    "late_answers": "answers of the old version to requests sent after the first of the new one (target: 0)",
    "answer_p50_ms": "ms, median",
    "answer_p99_ms": "ms; after each move all tasks are captioned anew",
    "model_mb": "MB, weights of one version",
    "memory_growth_over_model": "models by which the process grows from the second move to the last (target: 0.5)",
    "texts_that_differ": "tasks of which the two versions say different things",
}


@click.command()
@click.option("--rate", default=50.0, show_default=True, help="Requests a second.")
@click.option("--seconds", default=40.0, show_default=True)
@click.option("--quick", is_flag=True, help="A smoke run: fewer requests.")
def main(rate: float, seconds: float, quick: bool) -> None:
    hidden = 768
    if quick:
        seconds, hidden = 8.0, 256
    loopback_without_proxy()
    with tempfile.TemporaryDirectory(prefix="captioner-promotion-") as name:
        folder = Path(name)
        rows = manifest.load(write(folder / "scenes", TASKS, seed=5))
        first, second = (_captioner(rows[:16], folder / f"v{seed}", seed, hidden) for seed in (1, 2))
        flags = ["--no-label-studio", "--checkpoint", str(first), "--port", str(free_port())]
        with images(folder / "scenes") as port:
            environ = {"CAPTIONER_IMAGE_HOSTS": f"127.0.0.1:{port}", "CAPTIONER_BLIND_SHARE": "0"}
            launch = Launch(folder / "data", *flags, environ=environ, output=sys.stderr)
            with launch as state:
                registry = Registry(Store(state["settings"]["DATABASE_URL"]))
                registry.register(ModelVersion("second", second, project_id=PROJECT))
                load = _Load(state["backend_url"], f"http://127.0.0.1:{port}", rows)
                load.open(registry.champions()[0])
                memory: list[float] = []  # before each move
                moved = _run(load, registry, rate, seconds, lambda: memory.append(resident(largest_below(launch.pid))))
                size = sum(path.stat().st_size for path in second.glob("*.safetensors"))
                growth = (resident(largest_below(launch.pid)) - memory[MOVES // 2]) / size
        captions = {registry.champions()[0]: _captions(first, rows), "second": _captions(second, rows)}
    figures = _figures(load, captions, moved)
    report("promotion", {**figures, "model_mb": size / 1e6, "memory_growth_over_model": growth}, MEANINGS)


@dataclass(frozen=True)
class _Answer:
    """What came back for the tasks from `first` on: version and text of each draft, or what went wrong."""

    sent: float
    seconds: float
    first: int
    drafts: Sequence[tuple[str, str]]
    trouble: str = ""


@dataclass
class _Load:
    """What Label Studio sends to the backend at `url`; image `n` of the scenes is task n + 1."""

    url: str
    images: str
    rows: Sequence[manifest.Row]
    answers: list[_Answer] = field(default_factory=list)

    def open(self, version: str) -> None:
        """Connect the project, wait for the version, and have all tasks drafted."""
        wait_until(lambda: served_version(self.url) == version, 60, "the captioner to be loaded")
        for number in range(0, TASKS, ASKED):
            self.ask(number, time.monotonic())
        self.answers.clear()

    def has_answered(self, since: float, version: str) -> bool:
        """Whether a request sent since then has been answered by the version."""
        return any(answer.sent >= since and answer.drafts[0][0] == version for answer in self.answers if answer.drafts)

    def ask(self, first: int, at: float) -> None:
        """Ask for drafts of the tasks from `first` on, at that time."""
        time.sleep(max(0.0, at - time.monotonic()))
        tasks = [task(n + 1, f"{self.images}/{self.rows[n].image.name}") for n in range(first, first + ASKED)]
        body = predict_request(tasks)
        sent, drafts, trouble = time.monotonic(), [], ""
        try:
            answer = requests.post(f"{self.url}/predict", json=body, timeout=100)
            answer.raise_for_status()
            drafts = [(each["model_version"], _text(each)) for each in answer.json()["results"]]
            if len(drafts) != ASKED:
                trouble = f"{len(drafts)} drafts"
        except (requests.RequestException, ValueError, LookupError, TypeError) as error:
            trouble = repr(error)
        self.answers.append(_Answer(sent, time.monotonic() - sent, first, drafts, trouble))


def _captioner(rows: list[manifest.Row], folder: Path, seed: int, hidden: int) -> Path:
    """A large captioner that says little of use: what it weighs is what counts here."""
    config = TrainingConfig.starter(
        decoder=DecoderConfig(embedding=64, hidden=hidden, heads=4), epochs=2, learning_rate=1e-3, seed=seed
    )
    return train(rows, folder, config, cache_dir=folder.parent / "features")


def _run(
    load: _Load, registry: Registry, rate: float, seconds: float, moving: Callable[[], None]
) -> list[tuple[float, str]]:
    """Send at that rate for so long and move the champion meanwhile; when it was moved, and to what.

    `moving` is called before each move. The champion is not moved on before the version has answered, and requests go
    on until it has.
    """
    default = registry.champions()[0]
    moved: list[tuple[float, str]] = []
    with ThreadPoolExecutor(SENDERS) as senders:
        begun = time.monotonic()
        for number in count():
            at = begun + number / rate
            answered = not moved or load.has_answered(*moved[-1])
            if at - begun >= seconds and len(moved) == MOVES and answered:
                return moved
            if at - begun >= PATIENCE * seconds:
                raise click.ClickException(f"The champion was moved {len(moved)} times and did not answer in time.")
            if len(moved) < MOVES and answered and at - begun >= seconds * (len(moved) + 0.5) / MOVES:
                moving()
                if len(moved) % 2:
                    registry.rollback(PROJECT, by="benchmark")
                else:
                    registry.promote(PROJECT, "second", reason="benchmark", by="benchmark")
                moved.append((time.monotonic(), default if len(moved) % 2 else "second"))
            senders.submit(load.ask, ASKED * number % TASKS, at)
            time.sleep(max(0.0, at - time.monotonic()))
    raise AssertionError


def _figures(load: _Load, captions: dict[str, list[str]], moved: list[tuple[float, str]]) -> dict[str, float]:
    answers = sorted(load.answers, key=lambda answer: answer.sent)
    failed = [answer for answer in answers if answer.trouble]
    for answer in failed[:3]:
        print(f"Failed: {answer.trouble}", file=sys.stderr)
    good = [answer for answer in answers if not answer.trouble]
    mixed = [
        answer
        for answer in good
        if len({version for version, _ in answer.drafts}) > 1
        or any(captions[version][answer.first + n] != text for n, (version, text) in enumerate(answer.drafts))
    ]
    swaps, late = [], 0
    for number, (at, version) in enumerate(moved):
        until = moved[number + 1][0] if number + 1 < len(moved) else float("inf")
        since = [answer for answer in good if at <= answer.sent < until]
        new = [answer.sent + answer.seconds for answer in since if answer.drafts[0][0] == version]
        swaps.append(min(new) - at)
        late += sum(answer.sent > min(new) and answer.drafts[0][0] != version for answer in since)
    waits = [1000 * answer.seconds for answer in good]
    one, other = captions.values()
    return {
        "requests": len(answers),
        "requests_per_second": (len(answers) - 1) / (answers[-1].sent - answers[0].sent),
        "failed": len(failed),
        "mixed": len(mixed),
        "moves": len(moved),
        "swap_seconds": statistics.median(swaps),
        "late_answers": late,
        "answer_p50_ms": statistics.median(waits),
        "answer_p99_ms": percentile(waits, 0.99),
        "texts_that_differ": sum(a != b for a, b in zip(one, other, strict=True)),
    }


def _text(prediction: dict[str, Any]) -> str:
    return str(prediction["result"][0]["value"]["text"][0])


def _captions(folder: Path, rows: Sequence[manifest.Row]) -> list[str]:
    """What this version says of each image, asked alone."""
    captioner = checkpoint.load(folder, "cpu")
    return [getattr(found, "text", "") for found in captioner.caption([row.image for row in rows])]


if __name__ == "__main__":
    main()
