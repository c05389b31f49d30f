"""The ML backend under gunicorn: one process with threads, so that /health answers while captions are computed."""

from __future__ import annotations

import os
import sys
from typing import Any

from gunicorn.app.base import BaseApplication

from backend.settings import Settings
from backend.system.processes import end_with_parent

THREADS = 64
"""Label Studio opens a new connection for each call; most threads wait for images or for the captioner, and /health
must find one that is free."""

SWITCH_SECONDS = 0.0005
"""How long a thread may compute before another one gets its turn. A webhook gives the interpreter away at each of its
SQL statements, and would wait Python's usual 5 ms for the captioning thread at every one."""


class _Server(BaseApplication):
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._arbiter = os.getpid()
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": self._settings.web_workers,
            "worker_class": "gthread",
            "threads": THREADS,
            "timeout": 120,  # Label Studio waits 100 s for /predict
            "graceful_timeout": 10,
            "loglevel": "info",
            "proc_name": "captioner",
            "control_socket_disable": True,  # it would be made in the home folder
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        end_with_parent()  # left alone it would keep the port until its last request is answered
        if os.getppid() != self._arbiter:  # it died before the kernel was told
            os._exit(1)
        sys.setswitchinterval(SWITCH_SECONDS)
        # In the worker process: threads, connections and CUDA do not survive a fork.
        from backend.web.app import create_app
        from backend.web.services import build

        backend = build(self._settings)
        backend.start()
        return create_app(backend)


def serve(settings: Settings) -> None:
    """Serve until told to stop."""
    _Server(settings).run()
