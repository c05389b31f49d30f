"""`captioner up`: its steps in order, then a loop that restarts processes which die."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import filelock

from backend.domain.errors import CaptionerError
from backend.label_studio.client import LabelStudio
from backend.reports.serving import serving
from backend.settings import Settings
from backend.store.registry import DEFAULT, Registry
from backend.store.store import Store
from backend.system import device, redis_server
from backend.system.ports import check, is_healthy
from backend.system.processes import Child, ProcessError
from backend.up import first_model, label_studio_server, project
from backend.up.state import banner, forget, running, save
from backend.up.steps import say, step

LOAD_SECONDS = 120.0
PORT_SECONDS, KILLED_PORT_SECONDS = 1.0, 15.0
"""How long the ports of an earlier `up` may stay taken after it ended, or after it was killed."""
LABEL_STUDIO_PORT = 8080
SCENES = 100
"""Generated scenes that are imported without --images."""


class Up:
    """One `captioner up` over one data folder. `run` returns the exit status."""

    def __init__(
        self,
        settings: Settings,
        images: Path | None,
        checkpoint: Path | None,
        label_studio_port: int | None,
        scenes: int = SCENES,
        starter: bool = True,
    ) -> None:
        if images and not images.is_dir():
            raise CaptionerError(f"The folder of photos {images} does not exist.")
        if checkpoint and not (checkpoint / "config.json").is_file():
            raise CaptionerError(
                f"{checkpoint} is not a checkpoint: it has no config.json. `captioner train` makes one."
            )
        self._settings = settings
        self._images = images.absolute() if images else None
        self._checkpoint = checkpoint.absolute() if checkpoint else None
        self._label_studio_port = label_studio_port
        self._scenes = scenes
        self._starter = starter
        self._asked = {
            **settings.to_env(),
            "--images": str(self._images or ""),
            "--checkpoint": str(self._checkpoint or ""),
            "--label-studio-port": str(label_studio_port or LABEL_STUDIO_PORT),
            "--no-label-studio": "" if label_studio_port else "yes",
            "--no-starter": "" if starter else "yes",
        }
        self._data_dir = settings.data_dir
        self._children: list[Child] = []

    def run(self) -> int:
        """Start everything, restart what dies until Ctrl-C, then stop everything."""
        (self._data_dir / "run").mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self._data_dir / "run" / "up.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return self._already_running()
        self._killed_before = forget(self._data_dir)
        for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell starts background jobs with it ignored
            signal.signal(stop, signal.default_int_handler)
        try:
            self._start()
            self._watch()
        except KeyboardInterrupt:
            say("\nStopping.")
        finally:
            self._stop()
            lock.release()
        return 0

    def _start(self) -> None:
        begun = time.monotonic()
        if self._images:
            project.photos(self._images)  # a folder without photos is told before anything starts
        self._settings.check_access()
        self._check_ports()
        device.check(self._settings.device)
        label_studio = self._start_label_studio(self._label_studio_port) if self._label_studio_port else None
        self._start_redis()
        store = Store(self._settings.database_url, self._settings.data_dir)
        with step("Preparing the database", "Database ready"):
            store.migrate()
        registry = Registry(store)
        # It imports torch beside the next steps, so that a champion that they promote is loaded at once.
        backend = self._add(self._command("The ML backend", "serve", "backend.log"))
        version = self._first_version(registry)
        with step("Starting the ML backend", "ML backend ready"):
            backend.await_ready(lambda: is_healthy(self._settings.backend_url), 90)
        if label_studio:
            with step("Waiting for Label Studio (its first start takes half a minute)", "Label Studio ready"):
                label_studio.await_ready(lambda: is_healthy(self._label_studio_url), 180)
        state: dict[str, Any] = {"backend_url": self._settings.backend_url, "pid": os.getpid(), "asked": self._asked}
        if label_studio:
            state |= self._open_project(store, registry, version)
        elif version:
            first_model.promote(registry, DEFAULT, version)
            self._await_champion(registry, DEFAULT)
        # The worker is last: a waiting retrain needs Label Studio's images, and its start would delay the first draft.
        self._add(self._command("The worker", "worker", "worker.log"))
        state["settings"] = self._settings.to_env()
        save(self._data_dir, state)
        say(f"\nReady after {time.monotonic() - begun:.0f} s.")
        say(banner(state, self._data_dir))

    def _check_ports(self) -> None:
        mine = [(self._settings.port, self._settings.host, "--port (PORT=)")]
        if self._label_studio_port:
            if self._label_studio_port == self._settings.port:
                raise CaptionerError(
                    f"Port {self._settings.port} is given for both Label Studio and the ML backend: choose another "
                    f"with --port (PORT=) or --label-studio-port (LS_PORT=)."
                )
            mine.append((self._label_studio_port, "127.0.0.1", "--label-studio-port (LS_PORT=)"))
        for port, host, flag in mine:
            check(port, host, flag, KILLED_PORT_SECONDS if self._killed_before else PORT_SECONDS)

    def _start_redis(self) -> None:
        if self._settings.redis_url:
            from backend.queue import Queue  # RQ takes half a second to import, and Redis's own server needs none

            with step(f"Connecting to Redis at {self._settings.redis_url.rsplit('@')[-1]}"):
                Queue(self._settings.redis_url).ping()
            return
        with step("Starting Redis", "Redis ready"):
            try:
                self._add_redis()
            except ProcessError as error:
                self._children.pop().stop()
                if not (moved := redis_server.set_aside(self._data_dir)):
                    raise
                say(f"{error} It starts empty, and the queue is rebuilt from the database. The old file: {moved[0]}.")
                self._add_redis()
        self._settings = self._settings.model_copy(update={"redis_url": redis_server.url(self._data_dir)})

    def _add_redis(self) -> None:
        server = redis_server.child(self._data_dir)
        self._add(server).await_ready(lambda: redis_server.answers(self._data_dir), 20)

    def _start_label_studio(self, port: int) -> Child:
        """Install it if it is missing, and start it; its slow first start overlaps with the next steps."""
        if not label_studio_server.is_installed():
            with step(
                f"Installing Label Studio {label_studio_server.VERSION} into {label_studio_server.environment()}"
            ):
                label_studio_server.install(self._data_dir / "logs" / "label-studio-install.log")
        account = label_studio_server.login(self._data_dir)
        server = self._add(label_studio_server.child(self._data_dir, port, account))
        self._settings = self._settings.model_copy(
            update={"label_studio_url": self._label_studio_url, "label_studio_api_key": account.token}
        )
        return server

    def _first_version(self, registry: Registry) -> str | None:
        """The model that is there before the project. None for photos: those of scenes cannot caption them."""
        if self._checkpoint:
            return first_model.adopt(registry, self._checkpoint, self._data_dir)
        if self._images or not self._label_studio_port:
            return None
        return first_model.starter(registry, self._data_dir, self._settings.device)

    def _command(self, name: str, command: str, log: str) -> Child:
        argv = [sys.executable, "-P", "-m", "backend.cli", command]
        return Child(name, argv, self._data_dir / "logs" / log, {**os.environ, **self._settings.to_env()})

    def _open_project(self, store: Store, registry: Registry, version: str | None) -> dict[str, Any]:
        images = project.photos(self._images) if self._images else project.scenes(self._data_dir, self._scenes)
        account = label_studio_server.login(self._data_dir)
        client = LabelStudio(self._label_studio_url, account.token)
        project_id = project.open_project(client, self._data_dir, images)
        if version:
            first_model.promote(registry, project_id, version)
        elif self._starter:
            first_model.promote_bundled(registry, project_id, self._data_dir)
        self._await_champion(registry, project_id)
        project.connect_project(client, self._settings, project_id, store)
        return {
            "label_studio_url": self._label_studio_url,
            "project": project_id,
            "email": account.email,
            "password": account.password,
            "token": account.token,
        }

    def _await_champion(self, registry: Registry, project_id: int) -> None:
        """Wait until the champion or the one before it serves. Raises CaptionerError when none can be loaded."""
        champion = registry.champion(project_id)
        if champion is None:
            return
        with step(f"Loading captioner {champion.name}", f"Captioner {champion.name} loaded"):
            deadline = time.monotonic() + LOAD_SECONDS
            while True:
                loaded = serving(self._settings) or {"serving": {}, "refused": {}}
                if loaded["serving"].get(str(project_id), loaded["serving"].get(str(DEFAULT))):
                    return
                refused = loaded["refused"].get(str(project_id)) or loaded["refused"].get(str(DEFAULT))
                if refused:
                    raise CaptionerError(refused)
                if time.monotonic() > deadline:
                    raise CaptionerError(f"Captioner {champion.name} was not loaded within {LOAD_SECONDS:.0f} s.")
                time.sleep(0.05)

    def _watch(self) -> None:
        while True:
            for child in self._children:
                if happened := child.revive():
                    say(f"{time.strftime('%H:%M:%S')} {happened}")
            time.sleep(0.5)

    def _stop(self) -> None:
        forget(self._data_dir)
        for child in reversed(self._children):
            child.stop()

    def _already_running(self) -> int:
        """Show its addresses. Raises CaptionerError when options given now are neither the default nor its own."""
        state = running(self._data_dir)
        if state is None:
            raise CaptionerError(f"Another `captioner up` is starting or stopping with {self._data_dir}: wait for it.")
        usual = Settings.from_env({"CAPTIONER_DATA_DIR": str(self._data_dir)}).to_env()
        usual |= {"--images": "", "--no-starter": "", "--checkpoint": "", "--no-label-studio": ""}
        usual["--label-studio-port"] = str(LABEL_STUDIO_PORT)
        other = [name for name, value in self._asked.items() if value not in {usual[name], state["asked"].get(name)}]
        if other:
            raise CaptionerError(
                f"A `captioner up` runs with {self._data_dir} (process {state['pid']}) and other values of "
                f"{', '.join(other)}: stop it first (Ctrl-C), or choose another --data-dir (DATA=)."
            )
        say(f"Already running with {self._data_dir} (process {state['pid']}).")
        say(banner(state, self._data_dir))
        return 0

    def _add(self, child: Child) -> Child:
        child.start()
        self._children.append(child)
        return child

    @property
    def _label_studio_url(self) -> str:
        return f"http://127.0.0.1:{self._label_studio_port}"
