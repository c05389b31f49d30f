"""The processes of `benchmarks.soak`: two web servers and three workers on four hosts, and who restarts them.

A host is a data folder and, where it serves, an address of loopback. They share PostgreSQL, Redis and an S3 server.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from backend.settings import Settings
from backend.system.ports import free_port
from backend.system.processes import Child

WEB = ("web-1", "web-2")
WORKERS = {"worker-1": "host3", "worker-2": "host3", "worker-3": "host4"}
RESTART_SECONDS = (1.0, 3.0)
"""A supervisor starts a process that has ended again after so long."""
START_SECONDS = 300.0
READY_SECONDS = 2.0
_NEW_MOUNTS = 0x20000
TMPFS = "512m"

SETTINGS = {
    "CAPTIONER_DEVICE": "cpu",
    "CAPTIONER_RETRAIN_EVERY": "30",
    "CAPTIONER_RECONCILE_SECONDS": "15",
    "CAPTIONER_SWEEP_SECONDS": "45",
    "CAPTIONER_REPLAY": "0",  # a retrain then takes seconds
    "CAPTIONER_GATE_MARGIN": "100",  # nearly every candidate is promoted
    "OMP_NUM_THREADS": "1",
}


class Hosts:
    """All processes. One thread starts and supervises them: the kernel ends them with it."""

    def __init__(self, folder: Path, logs: Path, shared: Mapping[str, str], rng: random.Random) -> None:
        self.folder = folder
        self._logs = logs
        self._rng = rng
        unfinished = folder / "tmp"  # a server that is killed leaves what it has counted there
        unfinished.mkdir()
        code = {"PYTHONPATH": str(Path(__file__).parents[1])}  # this one, wherever another is installed
        self._environ = {**os.environ, **SETTINGS, **shared, **code, "TMPDIR": str(unfinished)}
        self._due: dict[str, float] = {}
        self.killed: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.urls: dict[str, str] = {}
        self.children: dict[str, Child] = {}
        for number, name in enumerate(WEB, start=1):
            host, port = f"127.0.0.{number}", free_port()
            self.urls[name] = f"http://{host}:{port}"
            self.children[name] = self._child(name, "serve", "--host", host, "--port", str(port))
        for name in WORKERS:
            self.children[name] = self._child(name, "worker")

    def data_dir(self, name: str) -> Path:
        """The data folder of a process."""
        return self.folder / (WORKERS[name] if name in WORKERS else f"host{name[-1]}")

    def settings(self, name: str) -> Settings:
        mine = {key: text for key, text in self._environ.items() if key.startswith(("CAPTIONER_", "LABEL_STUDIO_"))}
        shared = {key: self._environ[key] for key in ("DATABASE_URL", "REDIS_URL")}
        return Settings.from_env({**mine, **shared, "CAPTIONER_DATA_DIR": str(self.data_dir(name))})

    def start(self) -> None:
        for child in self.children.values():
            child.start()
        for name in WEB:
            self.children[name].await_ready(lambda name=name: self.is_ready(name), START_SECONDS)  # type: ignore[misc]

    def stop(self) -> None:
        """End all, whatever they do."""
        for child in self.children.values():
            if child.alive:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)
        for child in self.children.values():
            child.stop()

    def kill(self, name: str) -> None:
        """SIGKILL, which also ends what it has forked."""
        self.killed[name] += 1
        with suppress(ProcessLookupError):
            os.kill(self.children[name].pid, signal.SIGKILL)

    def supervise(self) -> None:
        """Start again what has ended, a moment later."""
        for name, child in self.children.items():
            if child.alive:
                continue
            if name not in self._due:
                self._due[name] = time.monotonic() + self._rng.uniform(*RESTART_SECONDS)
            elif time.monotonic() >= self._due[name]:
                del self._due[name]
                self.restarts[name] += 1
                child.start()

    def is_ready(self, name: str) -> bool:
        try:
            return requests.get(f"{self.urls[name]}/ready", timeout=READY_SECONDS).status_code == 200
        except requests.RequestException:
            return False

    def command(self, *arguments: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str] | None:
        """Run `captioner …` as an operator on a machine of their own; None where it took longer."""
        environ = {**self._environ, "CAPTIONER_DATA_DIR": str(self.folder / "operator")}
        argv = [sys.executable, "-P", "-m", "backend.cli", *arguments]
        try:
            return subprocess.run(
                argv,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None

    def logs(self) -> dict[str, str]:
        return {
            name: child.log.read_text(errors="replace") for name, child in self.children.items() if child.log.exists()
        }

    def _child(self, name: str, *arguments: str) -> Child:
        argv = [sys.executable, "-P", "-m", "backend.cli", *arguments, "--data-dir", str(self.data_dir(name))]
        return Child(name, argv, self._logs / f"{name}.log", self._environ)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A small disk there, which this process and its children alone see; False where this process may not mount one.
    It begins before threads do."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = _mount(folder)
    try:
        yield mounted
    finally:
        if mounted:
            argv = ["umount", "--lazy", str(folder)]
            subprocess.run(argv, capture_output=True, check=False)


def _mount(folder: Path) -> bool:
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS) != 0:
        return False
    private = ["mount", "--make-rprivate", "/"]
    disk = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS}", "captioner-soak", str(folder)]
    return all(subprocess.run(argv, capture_output=True, check=False).returncode == 0 for argv in (private, disk))
