"""The processes of `captioner up` but for a captioner: a real Label Studio, Redis, the ML backend and a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import requests

from backend.label_studio.client import LabelStudio
from backend.settings import Settings, loopback_without_proxy
from backend.store.store import Store
from backend.system import redis_server
from backend.system.ports import free_port
from backend.system.processes import Child
from backend.up import label_studio_server

START_SECONDS = 300.0


class Bare:
    """Nothing is drafted or trained, so that what dies is back at once. Whatever dies is started again."""

    def __init__(self, data_dir: Path, **environ: str) -> None:
        loopback_without_proxy()
        self._ended = threading.Event()
        self.data_dir = data_dir
        account = label_studio_server.login(data_dir)
        port = free_port()
        if not label_studio_server.is_installed():
            label_studio_server.install(data_dir / "logs" / "install.log")
        studio = label_studio_server.child(data_dir, port, account)
        redis = redis_server.child(data_dir)
        self.settings = Settings.from_env(
            {
                "CAPTIONER_DATA_DIR": str(data_dir),
                "CAPTIONER_PORT": str(free_port()),
                "LABEL_STUDIO_URL": f"http://127.0.0.1:{port}",
                "LABEL_STUDIO_API_KEY": account.token,
                "REDIS_URL": str(redis_server.url(data_dir)),
                **environ,
            }
        )
        self.client = LabelStudio(f"http://127.0.0.1:{port}", account.token)
        self.store = Store(self.settings.database_url)
        self.store.migrate()
        self._mortal = {"redis": redis, "backend": self._command("serve"), "worker": self._command("worker")}
        self._children = [studio, *self._mortal.values()]

    def start(self) -> None:
        for child in self._children:
            child.start()
        self._children[0].await_ready(lambda: label_studio_server.is_healthy(self.client.url), START_SECONDS)
        self._children[2].await_ready(self.is_up, START_SECONDS)
        threading.Thread(target=self._revive, daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        for child in reversed(self._children):
            child.stop()
        self.store.close()

    def kill(self, name: str) -> bool:
        """SIGKILL it; whether it lived. The kernel ends its children."""
        child = self._mortal[name]
        if not child.alive or child.pid is None:
            return False
        os.kill(child.pid, signal.SIGKILL)
        return True

    def is_up(self) -> bool:
        try:
            return requests.get(f"{self.settings.backend_url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def captioner(self, *arguments: str) -> str:
        """Output of a `captioner` command with the same settings."""
        argv = [sys.executable, "-P", "-m", "backend.cli", *arguments]
        done = subprocess.run(argv, env=self._environ(), capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def project_status(self, project: int) -> dict[str, Any]:
        found = json.loads(self.captioner("status", "--json"))
        return next(each for each in found["projects"] if each["id"] == project)

    def _environ(self) -> dict[str, str]:
        return {**os.environ, **self.settings.to_env(), "OMP_NUM_THREADS": "1"}

    def _command(self, command: str) -> Child:
        argv = [sys.executable, "-P", "-m", "backend.cli", command]
        return Child(command, argv, self.data_dir / "logs" / f"{command}.log", self._environ())

    def _revive(self) -> None:
        while not self._ended.wait(0.2):
            for child in self._mortal.values():
                if not child.alive and not self._ended.is_set():
                    child.start()
