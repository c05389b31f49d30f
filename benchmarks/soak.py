"""Runs two servers and three workers for half an hour while one fault follows another, and then counts what was lost.

    python -m benchmarks.soak [--minutes 30] [--seed 1] [--every 20] [--out DIR] [--quick]

Two servers on two addresses and three workers have data folders of their own, and share a PostgreSQL, a Redis and an S3
server, which this command starts and ends. Annotators, an import of tasks and an operator work with them. Label Studio
is a small one in memory, which keeps what people did: the database must come to say the same. The exit status is 1
where something that was wanted to be 0 is not. Where this is root a disk is filled, too. It needs PostgreSQL and the
extra `dev`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import requests

from backend.images.sharing import Sharing
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.store import Store
from benchmarks.report import report
from benchmarks.server import setup_request
from benchmarks.services import S3, PostgreSQL, Redis
from benchmarks.soak_clients import WAITING, Clients
from benchmarks.soak_faults import FAULTS, QUICK, Schedule, World
from benchmarks.soak_figures import MEANINGS, WANTED_ZERO, count
from benchmarks.soak_hosts import Hosts, small_disk
from benchmarks.soak_ledger import Ledger, Window, differences
from benchmarks.soak_studio import PROJECT, Pictures, Studio, serving
from benchmarks.soak_watch import Watch
from training.data import manifest
from training.data.scenes import write
from training.runtime.console import table

SCENES, SCENES_A_MINUTE, LEARNED = 300, 90, 60
"""Images of tasks, so many that captions are new until the end; and those of the first captioner."""
SIDE = 48
"""Pixels of an image's side, for the captioner."""
SETTLE_SECONDS = 300.0
"""So long after the last fault all must be as it should be."""
SPARE_SECONDS = 900.0
"""Starting and ending take no longer, together with SETTLE_SECONDS."""
QUICK_MINUTES, QUICK_EVERY = 0.35, 6.0


@click.command()
@click.option(
    "--minutes", default=30.0, show_default=True, help="Of work and faults; the start and the end come on top."
)
@click.option("--seed", default=1, show_default=True, help="Draws the faults and what people do.")
@click.option("--every", default=20.0, show_default=True, help="Seconds from the beginning of a fault to the next.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for logs and all that was written down.")
@click.option("--quick", is_flag=True, help="A smoke run: three faults.")
def main(minutes: float, seed: int, every: float, out: Path | None, quick: bool) -> None:
    minutes, every = (QUICK_MINUTES, QUICK_EVERY) if quick else (minutes, every)
    faults = [each for each in FAULTS if each.name in QUICK or not quick]
    scenes = LEARNED + SCENES + round(SCENES_A_MINUTE * minutes)
    figures: dict[str, float] = {**dict.fromkeys(WANTED_ZERO, 0.0), "aborted": 1.0}
    details: dict[str, Any] = {}
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"
    with tempfile.TemporaryDirectory(prefix="captioner-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            with _in_bounded_time(60 * minutes + SPARE_SECONDS), ExitStack() as stack:
                has_small_disk = stack.enter_context(small_disk(folder / "host2"))  # before there are threads
                rows = manifest.load(write(folder / "scenes", scenes, seed, world="full", dev_share=0))
                clients = _started(stack, folder, (out or folder) / "logs", rows, seed, has_small_disk)
                schedule = Schedule(clients.world, every, faults)
                try:
                    _run(clients, schedule, 60 * minutes)
                    figures["minutes"] = minutes
                    figures["aborted"] = 0.0
                finally:
                    found, details = count(clients, schedule)
                    figures |= found
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            figures["aborted"] = 1.0
            print(f"The run did not come to its end: {error!r}", file=sys.stderr)
    _print(figures, details, out)
    report("soak", figures, MEANINGS)
    if wrong := [name for name in WANTED_ZERO if figures[name]]:
        raise click.ClickException(f"Wanted to be 0 and not: {', '.join(wrong)}.")


@contextmanager
def _in_bounded_time(seconds: float) -> Iterator[None]:
    """The block ends by itself within that time, also on SIGTERM."""

    def end(number: int, frame: object) -> None:
        signal.alarm(0)
        raise TimeoutError(
            f"it was not done after {seconds:.0f} s" if number == signal.SIGALRM else "it was told to end"
        )

    before = {number: signal.signal(number, end) for number in (signal.SIGALRM, signal.SIGTERM)}
    signal.alarm(int(seconds))
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _started(
    stack: ExitStack, folder: Path, logs: Path, rows: list[manifest.Row], seed: int, has_small_disk: bool
) -> Clients:
    """Everything, running, and ended by the stack; the clients have not begun."""
    s3, redis, postgresql = stack.enter_context(S3()), stack.enter_context(Redis()), stack.enter_context(PostgreSQL())
    studio, pictures = Studio(), Pictures(folder / "scenes")
    for each in (studio, pictures):
        stack.enter_context(serving(each))
    os.environ.update(s3.environ)
    database = postgresql.create("soak")
    shared = {"DATABASE_URL": postgresql.url(database), "REDIS_URL": redis.url, "CAPTIONER_IMAGES_URL": s3.url}
    shared |= {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": "0" * 40}
    shared |= {"CAPTIONER_IMAGE_HOSTS": pictures.url.removeprefix("http://")}
    rng = random.Random(seed)
    hosts = Hosts(folder, logs, shared, rng)
    settings = hosts.settings("web-1")
    store = Store(settings.database_url, settings.data_dir)
    stack.callback(store.close)
    store.migrate()
    _serve_first(rows[:LEARNED], settings.data_dir, store, Sharing(settings, store))
    stack.callback(hosts.stop)
    hosts.start()
    setup = requests.post(f"{hosts.urls['web-1']}/setup", json=setup_request(), timeout=60)
    setup.raise_for_status()
    watch = Watch(hosts, store)
    stack.callback(watch.stop)
    world = World(hosts, watch, postgresql, redis, s3, studio, pictures, store, database, has_small_disk, rng)
    return Clients(world, Ledger(), rows[LEARNED:], seed)


def _serve_first(rows: Sequence[manifest.Row], data_dir: Path, store: Store, sharing: Sharing) -> None:
    """Train a captioner so small that a retrain takes seconds, and have it serve."""
    from training.config import DecoderConfig, DecodingConfig, TrainingConfig, TransformConfig
    from training.learning.train import train

    folder = data_dir / "models" / "first"
    small = {"decoder": DecoderConfig(embedding=32, hidden=64, heads=4), "decoding": DecodingConfig(beam=2)}
    config = TrainingConfig.starter(epochs=3, transform=TransformConfig(SIDE), **small)
    train(list(rows), folder, config, cache_dir=data_dir / "features", device="cpu")
    sharing.share(folder)
    registry = Registry(store)
    registry.register(ModelVersion("first", folder))
    registry.promote(DEFAULT, "first", reason="benchmark", by="benchmark")


def _run(clients: Clients, schedule: Schedule, seconds: float) -> None:
    """Work under faults for so long, then wait until all is as it should be."""
    world = clients.world
    world.watch.start()
    clients.add_tasks(WAITING)
    clients.start()
    while time.monotonic() < schedule.begun + seconds:
        world.hosts.supervise()
        schedule.tick()
        time.sleep(0.05)
    schedule.end()
    clients.stop(0)
    print(f"{time.strftime('%H:%M:%S')}  no more faults", file=sys.stderr, flush=True)
    conditions, deadline = _conditions(clients, time.time()), time.monotonic() + SETTLE_SECONDS
    left = list(conditions)
    while left and time.monotonic() < deadline:
        world.hosts.supervise()
        schedule.end()
        schedule.look_for_recovery()
        left = [name for name, holds in conditions.items() if not _holds(holds)]
        time.sleep(0.5)
    schedule.persons += [f"{SETTLE_SECONDS:.0f} s after the last fault {name}" for name in left]


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except Exception:  # such as a database that is not there yet
        return False


def _conditions(clients: Clients, ended: float) -> dict[str, Callable[[], bool]]:
    """What must hold in the end, by what is the matter where it does not."""
    world, store, since = clients.world, clients.world.store, time.monotonic()

    def was_compared() -> bool:
        completed = store.reconciliation_state(PROJECT).completed_at
        return completed is not None and completed.timestamp() > ended

    return {
        "requests have not ended": lambda: clients.stop(0),
        "the servers are not ready": lambda: world.watch.are_well(since),
        "the servers do not agree": lambda: world.watch.agreed,
        "a retrain has not ended": lambda: not any(each.active for each in store.retrains(PROJECT, 1)),
        "there was no complete comparison": was_compared,
        "the database differs from Label Studio": lambda: not differences(store, world.studio.texts()),
    }


def _print(figures: dict[str, float], details: dict[str, Any], out: Path | None) -> None:
    """What the table of figures cannot say; all of it goes to a file."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "soak.json").write_text(json.dumps({"figures": figures, **details}, indent=1))
    for sentence in details.get("persons", []):
        print(sentence, file=sys.stderr)
    windows = [Window(**each) for each in details.get("faults", [])]
    rows = []
    for name, number in sorted(Counter(each.name for each in windows).items()):
        mine = [each for each in windows if each.name == name]
        failures = [each for each in details["failures"] if any(one.meets(each["begun"], each["at"]) for one in mine)]
        longest = max(each.ended - each.begun for each in mine)
        causes = ", ".join(f"{cause} {times}" for cause, times in Counter(each["cause"] for each in failures).items())
        rows.append((f"  {name}", str(number), f"{longest:.0f} s", causes or "none"))
    if rows:
        print("\nfaults: how many, the longest until all was well, failed requests meanwhile by cause")
        print(table(rows, "<>><"))


if __name__ == "__main__":
    main()
