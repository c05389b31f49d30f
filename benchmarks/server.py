"""What the benchmarks of the running backend share: `captioner serve`, a host of images, Label Studio's requests."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import requests

import labeling_config
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.store import Store
from backend.system.ports import free_port
from backend.system.processes import Child

PROJECT = 1
LOAD_SECONDS = 120.0


class _Photos(SimpleHTTPRequestHandler):
    """Keeps connections, as Label Studio does. Without a delay: a file's end would wait for the client to confirm its
    beginning."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class _Host(ThreadingHTTPServer):
    request_queue_size = 128  # with fewer, connections that come at once are tried again a second later
    daemon_threads = True


@contextmanager
def images(folder: Path) -> Iterator[int]:
    """The port of a host on loopback that serves the files of this folder."""
    server = _Host(("127.0.0.1", 0), partial(_Photos, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def setup_request() -> dict[str, Any]:
    """The body of /setup."""
    config = labeling_config.shipped("caption")
    return {"project": f"{PROJECT}.1", "schema": config, "hostname": "", "access_token": "", "extra_params": None}


def predict_request(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body of /predict."""
    return {"tasks": tasks, "project": f"{PROJECT}.1", "label_config": labeling_config.shipped("caption")}


def task(number: int, image: str) -> dict[str, Any]:
    return {"id": number, "project": PROJECT, "data": {"image": image}}


def served_version(url: str, auth: tuple[str, str] | None = None) -> str:
    """What /setup names."""
    answer = requests.post(f"{url}/setup", json=setup_request(), timeout=30, auth=auth)
    answer.raise_for_status()
    return str(answer.json()["model_version"])


def wait_until(condition: Callable[[], bool], seconds: float, what: str, pause_seconds: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise click.ClickException(f"Waited {seconds:.0f} s for {what}, in vain.")
        time.sleep(pause_seconds)


@contextmanager
def serving(
    checkpoint: Path, data_dir: Path, environ: Mapping[str, str], auth: tuple[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """Address and process id of `captioner serve` over a new data folder, with the checkpoint as its champion, once
    that is loaded. Raises ProcessError with the end of its log where it does not start."""
    port, version = free_port(), checkpoint.name
    data_dir.mkdir(parents=True)
    store = Store(f"sqlite:///{data_dir / 'captioner.db'}")
    store.migrate()
    registry = Registry(store)
    registry.register(ModelVersion(version, checkpoint))
    registry.promote(DEFAULT, version, reason="benchmark", by="benchmark")
    store.close()
    argv = [sys.executable, "-P", "-m", "backend.cli", "serve", "--data-dir", str(data_dir), "--port", str(port)]
    child = Child("captioner serve", argv, data_dir / "serve.log", {**os.environ, **environ})
    url = f"http://127.0.0.1:{port}"
    child.start()
    try:
        child.await_ready(lambda: _answers(url), LOAD_SECONDS)
        child.await_ready(lambda: served_version(url, auth) == version, LOAD_SECONDS)
        yield url, child.pid
    finally:
        child.stop()


def largest_below(pid: int) -> int:
    """The process that serves: of this process and those below it the one with the most memory."""
    return max(_below(pid), key=resident)


def resident(pid: int) -> float:
    """Bytes of memory resident in the process; 0 where it has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0.0
    return float(pages) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """CPU seconds that this process and those below it have used so far."""
    ticks = 0
    for one in _below(pid):
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _below(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.ConnectionError:
        return False
