"""`captioner up` as a user runs it: a process over a data folder, with ports of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backend.reports.status import report
from backend.settings import Settings
from backend.system.ports import free_port
from backend.up.launch import Launch
from demo.browser import Browser

FEW_EPOCHS = Path(__file__).with_name("few_epochs")


def await_true(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)
    return value


class Captioning:
    """A project that a running captioner drafts, as its users see it.

    `state` is as `up` saves it in its data folder; `environ` is what the commands of others have to be given.
    """

    data_dir: Path
    state: dict[str, Any]
    environ: Mapping[str, str] = {}

    @property
    def project(self) -> int:
        return int(self.state["project"])

    @property
    def client(self) -> Browser:
        return Browser(self.state["label_studio_url"], self.state["token"])

    def status(self) -> dict[str, Any]:
        """What `captioner status --json` says, without the second that a new process takes."""
        return report(Settings.from_env(self.state["settings"]))

    def project_status(self) -> dict[str, Any]:
        return next(each for each in self.status()["projects"] if each["id"] == self.project)

    def captioner(self, *arguments: str) -> str:
        """Output of a `captioner` command over the same data."""
        argv = [sys.executable, "-P", "-m", "backend.cli", *arguments, "--data-dir", str(self.data_dir)]
        environ = {**os.environ, **self.environ}
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60, env=environ).stdout


class Stack(Launch, Captioning):
    """An `up` whose commands a test runs and whose processes it kills."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.log = data_dir / "up.log"
        ports = ["--port", str(free_port()), "--label-studio-port", str(free_port())]
        path = os.pathsep.join([str(FEW_EPOCHS), *filter(None, [os.environ.get("PYTHONPATH")])])
        super().__init__(data_dir, *flags, *ports, environ={"PYTHONPATH": path}, output=self.log.open("ab"))

    def children(self, word: str) -> list[int]:
        """Process ids below `up` whose command line holds the word, parents first."""
        found, line = [], [self.pid]
        while line:
            parent = line.pop(0)
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    ppid = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    command = (entry / "cmdline").read_text().replace("\0", " ")
                except (OSError, IndexError):
                    continue
                if ppid == parent:
                    line.append(int(entry.name))
                    if word in command:
                        found.append(int(entry.name))
        return found

    def kill_up(self) -> None:
        """SIGKILL `up` itself."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def kill(self, word: str) -> None:
        """SIGKILL the first process whose command line holds the word."""
        os.kill(self.children(word)[0], signal.SIGKILL)
