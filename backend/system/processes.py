"""Child processes that write to a log file and can be restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from backend.domain.errors import CaptionerError
from training.runtime.processes import end_with_parent

RESTARTS_A_MINUTE = 5
"""A child that dies more often lacks something, such as a database that is away, and would only take others' cores."""

COUNTED_IN = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which the processes of a server count. prometheus_client reads it when it is imported, so the
parent of these processes may not import it before."""

STOP_SECONDS = 10.0


class ProcessError(CaptionerError):
    """A child process could not be started."""


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs, anybody's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def share_cores(processes: int) -> None:
    """Let torch, which this process imports later, use one of so many shares of the cores; a number of threads that
    somebody has set stays."""
    if processes > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))


class Child:
    """One child process; its output goes to `log`. The terminal's Ctrl-C does not reach it: it has its own session."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self._argv = list(argv)
        self._environ = dict(os.environ if environ is None else environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts: list[float] = []

    def start(self) -> None:
        """Start it. Raises ProcessError when the program cannot be run."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._starts = [at for at in self._starts if time.monotonic() - at < 60] + [time.monotonic()]
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environ,
                    start_new_session=True,
                    preexec_fn=end_with_parent,
                )
            except OSError as error:
                raise ProcessError(f"{self.name} could not be started: {error}.") from error

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def await_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for `ready()`. Raises ProcessError with the end of the log when it dies or takes longer."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                code = self._process.poll() if self._process else None
                raise ProcessError(f"{self.name} stopped at once (exit status {code}); {self.log_end()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name} was not ready after {seconds:.0f} s; {self.log_end()}")
            time.sleep(0.02)

    def revive(self) -> str:
        """Restart it if it died, RESTARTS_A_MINUTE times at most. Returns a sentence where something happened."""
        restarts = len([at for at in self._starts if time.monotonic() - at < 60])
        if self.alive or restarts > RESTARTS_A_MINUTE:
            return ""
        told = f"{self.name} died and was restarted."
        if restarts == RESTARTS_A_MINUTE:
            told = f"{self.name} keeps dying and is restarted {RESTARTS_A_MINUTE} times a minute; {self.log_end()}"
        self.start()
        return told

    def stop(self) -> None:
        """Send it SIGTERM, wait, then kill its process group."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its own children

    def log_end(self) -> str:
        """The path of the log and its last three lines, for a message."""
        try:
            end = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        except OSError:
            end = []
        return f"its log {self.log} ends: {' | '.join(end) if end else '(empty)'}"
