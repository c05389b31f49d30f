"""Who works with the backend in `benchmarks.soak`: annotators behind a load balancer, an importer, an operator."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from backend.domain.errors import CaptionerError
from backend.store.registry import Registry
from benchmarks.server import predict_request
from benchmarks.soak_faults import World
from benchmarks.soak_hosts import WEB
from benchmarks.soak_ledger import MARK, REFUSED, Ledger, cause_of
from benchmarks.soak_studio import PROJECT
from training.data.manifest import Row

ANNOTATORS = 4
WAITING = 60
"""So many tasks wait for annotators, at least."""
IMPORTED = 8
PREDICT_SECONDS = 100.0
"""Label Studio waits so long for drafts."""
WEBHOOK_SECONDS = 30.0
"""Label Studio waits one second; whether an answer comes at all is asked here."""
THINK_SECONDS = (2.0, 6.0)
OPERATE_SECONDS = (8.0, 16.0)
CHANGED, DELETED, ASKED = 0.3, 0.1, 0.02
FEW = 3
"""The chance that a caption is followed by a change of another, by a deletion, by Start Training. Who has made few
captions neither changes nor deletes any."""


@dataclass
class _Person:
    """Their random numbers, and the annotations that are theirs, each with the captions that fit its image."""

    number: int
    rng: random.Random
    mine: list[int] = field(default_factory=list)
    fitting: list[tuple[str, ...]] = field(default_factory=list)


@dataclass
class Clients:
    """Everybody works from `start` until `stop`, each by random numbers of their own."""

    world: World
    ledger: Ledger
    rows: Sequence[Row]
    seed: int
    commands: Counter[str] = field(default_factory=Counter)
    failed_commands: Counter[str] = field(default_factory=Counter)
    sentences: list[str] = field(default_factory=list)
    """What commands that failed said."""
    _captions: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _taken: set[int] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _imported: int = 0

    def start(self) -> None:
        work: list[Callable[[_Person], None]] = [self._annotate] * ANNOTATORS
        for number, each in enumerate([*work, self._import, self._operate], start=1):
            person = _Person(number, random.Random(f"{self.seed}-{number}"))
            self._threads.append(threading.Thread(target=self._work, args=(each, person), daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = 120.0) -> bool:
        """Begin nothing more; whether all that had begun has ended."""
        self._over.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def add_tasks(self, number: int) -> None:
        """New tasks in Label Studio, which says so."""
        tasks = []
        for _ in range(number):
            with self._lock:
                row = self.rows[self._imported % len(self.rows)]
                self._imported += 1
            task = self.world.studio.add_task(f"{self.world.pictures.url}/{row.image.name}")
            self._captions[task["id"]] = row.references
            tasks.append(task)
        self._send(
            random.Random(self._imported), {"action": "TASKS_CREATED", "tasks": tasks, "project": {"id": PROJECT}}
        )

    def _work(self, work: Callable[[_Person], None], person: _Person) -> None:
        while not self._over.is_set():
            work(person)

    def _annotate(self, person: _Person) -> None:
        """Open a task, wait for its draft, caption it; now and then change or delete an earlier caption."""
        studio, rng, mine, fitting = self.world.studio, person.rng, person.mine, person.fitting
        with self._lock:
            free = [task for task in studio.unlabelled() if task["id"] not in self._taken]
            chosen = rng.sample(free, min(len(free), rng.choice([1, 1, 1, 4])))
            self._taken |= {task["id"] for task in chosen}
        if not chosen:
            self._over.wait(1.0)
            return
        self._draft(rng, chosen)
        self._over.wait(rng.uniform(*THINK_SECONDS))
        for task in chosen:
            references = self._captions[task["id"]]
            body = studio.annotate(task["id"], rng.choice(references), person.number)
            mine.append(body["annotation"]["id"])
            fitting.append(references)
            self._send(rng, body)
        if len(mine) > FEW and rng.random() < CHANGED:
            place = rng.randrange(len(mine))
            self._send(rng, studio.change(mine[place], rng.choice(fitting[place])))
        if len(mine) > FEW and rng.random() < DELETED:
            place = rng.randrange(len(mine))
            fitting.pop(place)
            self._send(rng, studio.delete(mine.pop(place)))
        if rng.random() < ASKED:
            body = {"action": "START_TRAINING", "project": {"id": PROJECT}}
            self._post(rng, "asking", "/webhook", body, WEBHOOK_SECONDS)

    def _import(self, person: _Person) -> None:
        if len(self.world.studio.unlabelled()) < WAITING:
            self.add_tasks(IMPORTED)
        self._over.wait(1.0)

    def _operate(self, person: _Person) -> None:
        """Promote one of the last versions, roll back, or have all waiting tasks drafted, by command."""
        rng = person.rng
        self._over.wait(rng.uniform(*OPERATE_SECONDS))
        if self._over.is_set():
            return
        name = ("preannotate", "promote", "rollback", "promote")[self.commands.total() % 4]
        arguments = [name, "--project", str(PROJECT)]
        if name == "promote":
            try:
                versions = Registry(self.world.store).versions(PROJECT, 5)
            except CaptionerError:
                return
            arguments.insert(1, rng.choice(versions).name)
        if name == "rollback":
            arguments.append("--yes")
        done = self.world.hosts.command(*arguments)
        self.commands[name] += 1
        if done is None:
            self.failed_commands["unfinished"] += 1  # `preannotate` goes on without it
        elif done.returncode:
            self.failed_commands["refused"] += 1
            self.sentences.append(f"{name}: {done.stderr.strip()[-300:]}")
            self.failed_commands["traceback"] += "Traceback (most" in done.stderr

    def _draft(self, rng: random.Random, tasks: Sequence[dict[str, Any]]) -> None:
        sent = time.time()
        answer = self._post(rng, "predict", "/predict", predict_request(tasks), PREDICT_SECONDS)
        if answer is not None:
            self.ledger.draft(sent, answer["results"])

    def _send(self, rng: random.Random, body: dict[str, Any]) -> None:
        """Send a webhook once, as Label Studio does."""
        number = self.ledger.send()
        begun = time.monotonic()
        if self._post(rng, "webhook", "/webhook", {**body, MARK: number}, WEBHOOK_SECONDS) is not None:
            self.ledger.acknowledge(number, time.monotonic() - begun)

    def _post(self, rng: random.Random, kind: str, path: str, body: Any, seconds: float) -> Any:
        """The answer; None where there was none. Where one server cannot be connected to, the other is tried."""
        self.ledger.begin(kind)
        begun = time.time()
        ready = [name for name in WEB if self.world.watch.ready.get(name)] or list(WEB)
        first = rng.choice(ready)
        failure: requests.RequestException | int = 0
        for name in (first, next(each for each in WEB if each != first)):
            try:
                answer = requests.post(f"{self.world.hosts.urls[name]}{path}", json=body, timeout=seconds)
            except requests.RequestException as error:
                failure = error
                if cause_of(error) == REFUSED:
                    continue
                break
            if answer.ok:
                return answer.json()
            self.ledger.fail(kind, begun, answer.status_code, answer.text)
            return None
        self.ledger.fail(kind, begun, failure)
        return None
