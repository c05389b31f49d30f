"""The faults of `benchmarks.soak`: one after another, drawn by a seed, each with what begins and what ends it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis as Client

from backend.store.registry import Registry
from backend.store.store import Store
from benchmarks.server import largest_below
from benchmarks.services import S3, PostgreSQL, Redis
from benchmarks.soak_hosts import WEB, WORKERS, Hosts
from benchmarks.soak_ledger import Window
from benchmarks.soak_studio import FAILING, GARBAGE, HANGING, PROJECT, SLOW, WELL, Pictures, Studio
from benchmarks.soak_watch import Watch

RECOVERY_SECONDS = 150.0
"""What is not well again so long after a fault would need a person."""
PAUSE_SECONDS = 40.0
"""What is not well again so long after a fault gets time to become so before another begins."""
RETRY_SECONDS = 35.0
"""What could not be fetched is tried again every 30 s."""
SETTLE_SECONDS = 1.0
"""So long after a fault nobody may have noticed it yet."""
LEFT_BYTES = 4096


@dataclass
class World:
    """What faults act on. `small_disk`: the second host's data folder is on a disk that may be filled."""

    hosts: Hosts
    watch: Watch
    postgresql: PostgreSQL
    redis: Redis
    s3: S3
    studio: Studio
    pictures: Pictures
    store: Store
    database: str
    small_disk: bool
    rng: random.Random

    # Each of these begins a fault, and returns what ends it

    def kill_web(self) -> Callable[[], None]:
        """The whole server, or the process that serves, which its parent replaces."""
        name = self.rng.choice(WEB)
        if self.rng.random() < 0.5:
            self.hosts.kill(name)
        else:
            _kill_below(self.hosts, name)
        return _nothing

    def kill_worker(self) -> Callable[[], None]:
        """The worker, or what it has forked for a job."""
        name = self.rng.choice(sorted(WORKERS))
        if self.rng.random() < 0.5:
            self.hosts.kill(name)
        else:
            _kill_below(self.hosts, name)
        return _nothing

    def flush_redis(self) -> Callable[[], None]:
        self._redis().flushall()
        return _nothing

    def stop_redis(self) -> Callable[[], None]:
        self.redis.stop(signal.SIGKILL)
        return self.redis.start

    def make_redis_read_only(self) -> Callable[[], None]:
        self._redis().config_set("min-replicas-to-write", 1)

        def end() -> None:
            self._redis().config_set("min-replicas-to-write", 0)

        return end

    def end_connections(self) -> Callable[[], None]:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        self.postgresql.execute(f"{ended} WHERE datname = '{self.database}'")
        return _nothing

    def restart_postgresql(self) -> Callable[[], None]:
        """At once, orderly or as after a crash."""
        self.postgresql.stop(self.rng.choice([signal.SIGINT, signal.SIGQUIT]))
        self.postgresql.start()
        return _nothing

    def stop_postgresql(self) -> Callable[[], None]:
        self.postgresql.stop()
        return self.postgresql.start

    def stop_s3(self) -> Callable[[], None]:
        self.s3.stop()
        return self.s3.start

    def break_label_studio(self) -> Callable[[], None]:
        self.studio.mode = self.rng.choice([FAILING, GARBAGE, SLOW])

        def end() -> None:
            self.studio.mode = WELL

        return end

    def hang_images(self) -> Callable[[], None]:
        self.pictures.mode = HANGING

        def end() -> None:
            self.pictures.mode = WELL

        return end

    def damage_checkpoint(self) -> Callable[[], None]:
        """That of the champion on one host, whose server then starts anew."""
        name = self.rng.choice(WEB)
        champion = Registry(self.store).champion(PROJECT)
        if champion is not None:
            file = self.hosts.data_dir(name) / "models" / champion.name / "model.safetensors"
            if file.exists():
                _damage(file)
        self.hosts.kill(name)
        return _nothing

    def delete_images(self) -> Callable[[], None]:
        name = self.rng.choice([*WEB, *WORKERS])
        shutil.rmtree(self.hosts.data_dir(name) / "images", ignore_errors=True)
        return _nothing

    def fill_disk(self) -> Callable[[], None]:
        filler = self.hosts.data_dir("web-2") / "filler"
        _fill(filler)
        return lambda: filler.unlink(missing_ok=True)

    def _redis(self) -> Client:
        return Client.from_url(self.redis.url)


@dataclass(frozen=True)
class Fault:
    """It lasts so many seconds. `excuses`: for so long after its end versions may still be late; None: not at all."""

    name: str
    begin: Callable[[World], Callable[[], None]]
    seconds: float = 0.0
    excuses: float | None = None


FAULTS = (
    Fault("nothing", lambda world: _nothing),
    Fault("web killed", World.kill_web, excuses=5),
    Fault("worker killed", World.kill_worker),
    Fault("Redis flushed", World.flush_redis),
    Fault("Redis gone", World.stop_redis, 10),
    Fault("Redis read-only", World.make_redis_read_only, 15),
    Fault("connections ended", World.end_connections, excuses=5),
    Fault("PostgreSQL restarted", World.restart_postgresql, excuses=5),
    Fault("PostgreSQL gone", World.stop_postgresql, 30, excuses=5),
    Fault("S3 gone", World.stop_s3, 20, excuses=RETRY_SECONDS),
    Fault("Label Studio broken", World.break_label_studio, 20),
    Fault("nothing", lambda world: _nothing),
    Fault("images hanging", World.hang_images, 20),
    Fault("checkpoint damaged", World.damage_checkpoint, excuses=RETRY_SECONDS),
    Fault("images deleted", World.delete_images),
    Fault("disk full", World.fill_disk, 20, excuses=RETRY_SECONDS),
)
QUICK = ("worker killed", "connections ended", "Redis flushed")


@dataclass
class Schedule:
    """Begins a fault every so many seconds, or when the one before is over; each of the list once before one comes
    again. `tick` is called all the time, by the thread that starts processes."""

    world: World
    every_seconds: float
    faults: Sequence[Fault] = FAULTS
    windows: list[Window] = field(default_factory=list)
    persons: list[str] = field(default_factory=list)
    """What would have needed a person."""
    begun: float = field(default_factory=lambda: time.monotonic())
    _left: list[Fault] = field(default_factory=list)
    _next: float = field(default_factory=lambda: time.monotonic())
    _acting: tuple[Fault, float, Callable[[], None]] | None = None
    _recovering: list[tuple[Fault, float, float]] = field(default_factory=list)

    def draw(self) -> Fault:
        if not self._left:
            self._left = [each for each in self.faults if each.name != "disk full" or self.world.small_disk]
            self.world.rng.shuffle(self._left)
        return self._left.pop()

    def tick(self) -> None:
        now = time.monotonic()
        if self._acting and now >= self._acting[1] + self._acting[0].seconds:
            self.end()
        is_late = bool(self._recovering) and now - self._recovering[0][2] > PAUSE_SECONDS
        if self._acting is None and now >= self._next and not is_late:
            fault = self.draw()
            _say(fault.name)
            self._next = now + self.every_seconds
            try:
                self._acting = fault, now, fault.begin(self.world)
            except Exception as error:  # such as a database that is not back yet
                _say(f"{fault.name} could not begin: {error!r}")
        self.look_for_recovery()

    def look_for_recovery(self) -> None:
        """Take the faults that are over for overcome where all is well."""
        now = time.monotonic()
        if not self._recovering:
            return
        if self._acting is None and self.world.watch.are_well(self._recovering[-1][2] + SETTLE_SECONDS):
            self._recover(now)
        elif now - self._recovering[0][2] > RECOVERY_SECONDS:
            self.persons.append(f"{self._recovering[0][0].name}: not well {RECOVERY_SECONDS:.0f} s later")
            self._recover(now)

    def end(self) -> None:
        """End the fault that acts."""
        if self._acting:
            fault, begun, end = self._acting
            try:
                end()
            except Exception as error:
                _say(f"{fault.name} could not end, and is tried again: {error!r}")
                return
            self._acting = None
            self._recovering.append((fault, begun, time.monotonic()))

    def close(self) -> None:
        """End what acts, and take what has not recovered to last until now."""
        self.end()
        self._recover(time.monotonic())

    def _recover(self, now: float) -> None:
        wall = time.time() - time.monotonic()
        for fault, begun, _ in self._recovering:
            if fault.name != "nothing":
                ended = now + (fault.excuses or 0.0)
                self.windows.append(Window(fault.name, begun + wall, ended + wall, fault.excuses is not None))
        self._recovering.clear()


def _say(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {sentence}", file=sys.stderr, flush=True)


def _nothing() -> None:
    """Ends a fault that has ended by itself."""


def _kill_below(hosts: Hosts, name: str) -> None:
    hosts.killed[name] += 1
    with suppress(ProcessLookupError, ValueError):
        os.kill(largest_below(hosts.children[name].pid), signal.SIGKILL)


def _damage(file: Path) -> None:
    """Other bytes in the middle, at the same size."""
    with file.open("r+b") as weights:
        weights.seek(file.stat().st_size // 2)
        weights.write(bytes(range(256)))


def _fill(filler: Path) -> None:
    size = 1 << 20
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while size >= LEFT_BYTES:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
