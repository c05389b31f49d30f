"""The ML backend under gunicorn. Its threads let /health answer while captions are computed."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from backend.domain.errors import DatabaseError
from backend.settings import Settings
from backend.system import logs
from backend.system.processes import COUNTED_IN
from training.runtime.processes import end_with_parent

if TYPE_CHECKING:
    from backend.web.services import Services

log = logging.getLogger(__name__)

MEMORY = "/dev/shm"  # noqa: S108
"""A folder of Linux that lies in memory; `mkdtemp` takes a name in it that nobody can guess."""
COUNTED, NEW_SECONDS = "captioner-metrics-", 60.0
"""The beginning of its folders' names, and how long one may not be locked yet."""
THREADS = 64
"""Label Studio opens a new connection for each call. Most threads wait for images or for the captioner, and /health
needs a free one."""

SWITCH_SECONDS = 0.0005
"""How long a thread may compute before another gets its turn. A webhook releases the interpreter at each SQL statement
and would wait for the captioning thread each time, 5 ms with Python's default."""

RETRY_SECONDS = 2.0
"""A process that starts while the database is away asks for it again after so long."""


class _Log(Logger):
    """gunicorn's own lines, in the form of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class _Server(BaseApplication):
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._arbiter = os.getpid()
        self._counted = _folder_to_count_in()
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
            "logger_class": _Log,
            "proc_name": "captioner",
            "control_socket_disable": True,  # it would be made in the home folder
            "raw_env": [f"{COUNTED_IN}={self._counted}"],
            "child_exit": _no_longer_waits,
            "on_exit": lambda arbiter: shutil.rmtree(self._counted, ignore_errors=True),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        end_with_parent()  # an orphan would keep the port until its last request is answered
        if os.getppid() != self._arbiter:  # the parent died before end_with_parent was called
            os._exit(1)
        sys.setswitchinterval(SWITCH_SECONDS)
        # In the worker process: threads, connections and CUDA do not survive a fork.
        from backend.web.app import create_app

        services = _built(self._settings)
        services.start()
        return create_app(services)


def _folder_to_count_in() -> str:
    """A new folder, locked until this process and its children end; those of servers that were killed are removed.

    Not in the data folder, which machines may share. In memory: processes count in mapped files, and the kernel kills
    who writes to one for which the disk has no room.
    """
    place = Path(MEMORY if os.access(MEMORY, os.W_OK) else tempfile.gettempdir())
    for left in place.glob(f"{COUNTED}*"):
        with suppress(OSError):  # it is in use, or another user's
            if time.time() - left.stat().st_mtime > NEW_SECONDS:
                folder = os.open(left, os.O_RDONLY)
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left)
                finally:
                    os.close(folder)
    made = tempfile.mkdtemp(prefix=COUNTED, dir=place)
    fcntl.flock(os.open(made, os.O_RDONLY), fcntl.LOCK_SH)
    return made


def _built(settings: Settings) -> Services:
    """The services, once the database is there: gunicorn ends the whole server where a process cannot start."""
    from backend.web import services

    said = ""
    while True:
        try:
            return services.build(settings)
        except DatabaseError as error:
            if str(error) != said:
                log.warning("The server waits: %s", error)
            said = str(error)
            time.sleep(RETRY_SECONDS)


def _no_longer_waits(arbiter: object, worker: Any) -> None:
    """What a process has counted stays; what waited in it waits no more."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)


def serve(settings: Settings) -> None:
    """Serve until a signal stops it."""
    logs.configure(settings.log_format, settings.secrets)
    _Server(settings).run()
