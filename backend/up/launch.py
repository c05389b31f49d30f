"""`captioner up` as a child process, for programs that need all of it: the demo, benchmarks, tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from backend.domain.errors import CaptionerError
from backend.settings import loopback_without_proxy
from backend.up.state import running
from training.runtime.processes import end_with_parent

READY_SECONDS = 480.0  # a first start installs Label Studio and trains the starter captioner
STOP_SECONDS = 60.0


class Launch:
    """One `up` over a data folder. `state` is what it saved once it was ready; `output` is where it prints."""

    def __init__(
        self, data_dir: Path, *flags: str, environ: Mapping[str, str] | None = None, output: IO[Any] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.state: dict[str, Any] = {}
        loopback_without_proxy()  # the caller talks to the servers that it starts
        self._argv = [sys.executable, "-P", "-m", "backend.cli", "up", "--data-dir", str(data_dir), *flags]
        self._environ = {**os.environ, **(environ or {})}
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait until it is ready; returns the seconds that took. Raises CaptionerError when it ends."""
        begun = time.monotonic()
        self._process = subprocess.Popen(
            self._argv,
            env=self._environ,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(signal.SIGTERM),
        )
        while (state := running(self.data_dir)) is None:
            if self._process.poll() is not None:
                raise CaptionerError(f"`captioner up` ended with exit status {self._process.returncode}.")
            if time.monotonic() - begun > READY_SECONDS:
                self.stop()
                raise CaptionerError(f"`captioner up` was not ready after {READY_SECONDS:.0f} s.")
            time.sleep(0.1)
        self.state = state
        return time.monotonic() - begun

    def stop(self) -> None:
        """Ctrl-C, and wait."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> dict[str, Any]:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self.state

    def __exit__(self, *error: object) -> None:
        self.stop()
