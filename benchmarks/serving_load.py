"""What `benchmarks.serving` sends to the server, and what it reads of the server's process meanwhile."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np
from PIL import Image

from benchmarks.server import cpu_seconds, predict_request, resident, task

TIMEOUT_SECONDS = 110.0  # Label Studio gives up after 100
SAMPLE_SECONDS = 0.05
IDLE_SHARE = 0.1  # of a core, below which the server has no work left: its watchers use about a hundredth


@dataclass(frozen=True)
class Answer:
    """What came back for some tasks: a draft each, or None where there was none in time."""

    seconds: float
    drafts: Sequence[str | None]

    @property
    def drafted(self) -> int:
        return sum(draft is not None for draft in self.drafts)

    @property
    def rate(self) -> float:
        """Drafts a second."""
        return self.drafted / self.seconds


class Tasks:
    """New tasks, each with a photo that no task had before."""

    def __init__(self, host: str, photos: Sequence[Path]) -> None:
        self._host = host
        self._photos = list(photos)
        random.Random(1).shuffle(self._photos)
        self._given = 0

    def take(self, number: int) -> tuple[list[dict[str, Any]], list[Path]]:
        """So many, and their photos."""
        photos = self._photos[self._given : self._given + number]
        if len(photos) < number:
            raise click.ClickException(f"{len(self._photos)} photos are too few; all of Flickr8k are needed.")
        first = self._given + 1
        self._given += number
        return [task(first + place, f"{self._host}/{photo.name}") for place, photo in enumerate(photos)], photos


class Client:
    """Sends /predict over a new connection each time, as Label Studio does."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def ask(self, tasks: Sequence[dict[str, Any]]) -> Answer:
        """Raises ClickException where the answer is not 200 with a result for each task."""
        body = json.dumps(predict_request(tasks)).encode()
        connection = HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        begun = time.perf_counter()
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except OSError as error:
            raise click.ClickException(f"A request with {len(tasks)} tasks failed: {error!r}.") from error
        finally:
            connection.close()
        seconds = time.perf_counter() - begun
        if answer.status != 200:
            raise click.ClickException(f"A request with {len(tasks)} tasks got {answer.status}: {content[:300]!r}.")
        results = json.loads(content)["results"]
        if len(results) != len(tasks):
            raise click.ClickException(f"A request with {len(tasks)} tasks got {len(results)} results.")
        return Answer(seconds, [result["result"][0]["value"]["text"][0] if result else None for result in results])

    def ask_at_once(self, tasks: Sequence[dict[str, Any]], clients: int) -> tuple[float, list[Answer]]:
        """Seconds of so many clients that ask for one task each, over and over, and the answers."""
        with ThreadPoolExecutor(clients) as pool:
            begun = time.perf_counter()
            answers = list(pool.map(lambda one: self.ask([one]), tasks))
            return time.perf_counter() - begun, answers


class Memory:
    """The resident memory of a process, in MiB, and its peak since the block began."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak = 0.0

    def now(self) -> float:
        found = resident(self._pid)
        if not found:
            raise click.ClickException("The web process has ended; its log has the reason.")
        return found / 2**20

    @contextmanager
    def watched(self) -> Iterator[None]:
        stopping = threading.Event()

        def sample() -> None:
            while not stopping.wait(SAMPLE_SECONDS):
                self.peak = max(self.peak, resident(self._pid) / 2**20)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()


def settle(pid: int, quiet_seconds: float, most_seconds: float) -> float:
    """Wait until the server has had no work for `quiet_seconds`, in the background neither; the seconds until then."""
    begun = time.monotonic()
    while time.monotonic() - begun < most_seconds:
        before = cpu_seconds(pid)
        time.sleep(quiet_seconds)
        if cpu_seconds(pid) - before < IDLE_SHARE * quiet_seconds:
            return time.monotonic() - begun - quiet_seconds
    raise click.ClickException(f"The server still worked {most_seconds:.0f} s after the last answer.")


def write_huge(path: Path, side: int) -> None:
    """A JPEG of side x side pixels whose colours change slowly, so that it is made quickly."""
    colours = np.random.default_rng(1).integers(0, 256, (side // 100, side // 100, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((side, side), Image.Resampling.BILINEAR).save(path, quality=75)
