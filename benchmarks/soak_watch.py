"""What `benchmarks.soak` measures while it runs: when both servers serve a new champion, and what processes hold."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

from backend.domain.errors import CaptionerError
from backend.store.store import Store
from benchmarks.server import largest_below, resident
from benchmarks.soak_hosts import WEB, Hosts
from benchmarks.soak_ledger import Move, champion_moves
from benchmarks.soak_studio import PROJECT

ASK_SECONDS = 0.2
ANSWER_SECONDS = 2.0
READY_SECONDS = 0.5
SAMPLE_SECONDS = 5.0
YOUNG_SECONDS = 30.0
"""A process that was first seen later is still loading."""


@dataclass(frozen=True)
class Agreement:
    """Both servers named the champion that had been since `at`, so many seconds later."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Sample:
    """What a process of this kind held: bytes of memory and open files; `life` tells processes of one name apart."""

    at: float
    kind: str
    life: str
    memory: float
    files: int


@dataclass
class Watch:
    """Asks in threads of its own from `start` until `stop`."""

    hosts: Hosts
    store: Store
    agreements: list[Agreement] = field(default_factory=list)
    overtaken: int = 0
    """Champions that another one followed before both servers had them."""
    samples: list[Sample] = field(default_factory=list)
    agreed: bool = False
    ready: dict[str, float] = field(default_factory=dict)
    """When each server that said so when it was last asked was asked, by `time.monotonic`."""
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._compare, self._sample, self._ask)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def are_well(self, since: float) -> bool:
        """Whether every process runs, and both servers have said after that time that they are ready."""
        alive = all(child.alive for child in self.hosts.children.values())
        return alive and all(self.ready.get(name, 0.0) > since for name in WEB)

    def _compare(self) -> None:
        pending: Move | None = None
        known = len(champion_moves(self.store))
        while not self._over.wait(ASK_SECONDS):
            try:
                moves = champion_moves(self.store)
            except CaptionerError:
                self.agreed = False
                continue
            if len(moves) > known:
                self.overtaken += len(moves) - known - 1 + (pending is not None)
                pending, known = moves[-1], len(moves)
            if not moves:
                continue
            served = {self._served(name) for name in WEB}
            self.agreed = served == {moves[-1].version}
            if pending is not None and self.agreed:
                self.agreements.append(Agreement(pending.at, time.time() - pending.at))
                pending = None

    def _served(self, name: str) -> str | None:
        try:
            answer = requests.get(f"{self.hosts.urls[name]}/serving", timeout=ANSWER_SECONDS)
            serving = answer.json()["serving"] if answer.ok else {}
        except (requests.RequestException, ValueError, KeyError):
            return None
        found = serving.get(str(PROJECT)) or serving.get("0")
        return found if isinstance(found, str) else None

    def _ask(self) -> None:
        """As a load balancer does."""
        while not self._over.wait(READY_SECONDS):
            for name in WEB:
                asked = time.monotonic()
                self.ready[name] = asked if self.hosts.is_ready(name) else 0.0

    def _sample(self) -> None:
        seen: dict[str, float] = {}
        while not self._over.wait(SAMPLE_SECONDS):
            for name, child in self.hosts.children.items():
                if not child.alive:
                    continue
                kind = "web" if name in WEB else "worker"
                pid = largest_below(child.pid) if kind == "web" else child.pid  # a job's process ends with the job
                life = f"{name} {pid}"
                if time.time() - seen.setdefault(life, time.time()) < YOUNG_SECONDS:
                    continue
                with suppress(OSError):
                    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                    self.samples.append(Sample(time.time(), kind, life, resident(pid), files))


def growth(samples: Sequence[Sample], kind: str) -> dict[str, float]:
    """Medians of the first and of the last quarter of the time, and by how much the process grew that lived longest:
    from the second quarter of its life to the last."""
    mine = [each for each in samples if each.kind == kind]
    if not mine:
        return {}
    begun, ended = mine[0].at, mine[-1].at
    quarter = (ended - begun) / 4
    first = [each for each in mine if each.at <= begun + quarter]
    last = [each for each in mine if each.at >= ended - quarter]
    longest = max({each.life for each in mine}, key=lambda life: sum(each.life == life for each in mine))
    life = [each for each in mine if each.life == longest]
    early, late = life[len(life) // 4 : len(life) // 2] or life, life[-max(1, len(life) // 4) :]
    return {
        f"{kind}_first_mb": statistics.median(each.memory for each in first) / 1e6,
        f"{kind}_last_mb": statistics.median(each.memory for each in last) / 1e6,
        f"{kind}_first_files": statistics.median(each.files for each in first),
        f"{kind}_last_files": statistics.median(each.files for each in last),
        f"{kind}_longest_seconds": life[-1].at - life[0].at,
        f"{kind}_longest_growth_mb": statistics.median(each.memory for each in late) / 1e6
        - statistics.median(each.memory for each in early) / 1e6,
        f"{kind}_longest_growth_files": statistics.median(each.files for each in late)
        - statistics.median(each.files for each in early),
    }
