"""The services of one process over one data folder, built in one place."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from backend.corrections.inbox import Inbox
from backend.images.cache import Images
from backend.images.sharing import Sharing
from backend.queue import Queue
from backend.serving.champions import Champions, Loader
from backend.serving.drafting import Drafting
from backend.serving.reuse import Reuse
from backend.settings import Settings
from backend.store.registry import DEFAULT, Registry
from backend.store.store import Store
from backend.system import redis_server
from backend.web.watcher import Watcher


@dataclass
class Services:
    """The services of one process. No thread runs and no model is loaded until `start`."""

    settings: Settings
    store: Store
    registry: Registry
    queue: Queue
    inbox: Inbox
    images: Images
    sharing: Sharing
    champions: Champions
    reuse: Reuse | None
    drafting: Drafting
    _watcher: Watcher | None = None
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Load the champions in the background, then watch for new ones. A second call changes nothing."""
        with self._starting:
            if self._watcher is None:
                self._watcher = Watcher(self)
                self._watcher.start()

    def await_champions(self, timeout_seconds: float) -> bool:
        """Wait until the champions that served before the start are loaded; returns whether they are.

        Without the wait a request right after a start would be answered as if the project had no model.
        """
        return self._watcher is None or self._watcher.loaded.wait(timeout_seconds)

    def unready(self) -> str | None:
        """Why this process should not be sent requests yet, in one sentence; None when it should.

        It names no paths, since who asks gives no password.
        """
        if not self.await_champions(0):
            return "The champions are being loaded."
        for project_id in sorted(self.champions.refused().keys() - self.champions.assigned().keys()):
            whose = f"of project {project_id}" if project_id != DEFAULT else "of projects without one of their own"
            return f"The champion {whose} cannot be loaded; `captioner status` and the log say why."
        return None

    def version(self, project_id: int, wait_seconds: float) -> str | None:
        """The version that serves the project; after a start, the one that is still loading when the wait is over."""
        if not self.await_champions(wait_seconds):
            champions, refused = self.registry.champions(), self.champions.refused()
            for owner in (project_id, DEFAULT):
                if owner in champions and owner not in refused:
                    return champions[owner]
        return self.champions.serving(project_id)

    def stop(self) -> None:
        """Stop the watcher and what is drafted in the background; for tests and short-lived processes."""
        self.drafting.stop()
        if self._watcher is not None:
            self._watcher.stop()


def build(settings: Settings, load: Loader | None = None) -> Services:
    """Build the services over one data folder, and migrate its database.

    `load` turns a checkpoint folder into a captioner (default: that of `training`).
    """
    store = Store(settings.database_url, settings.data_dir)
    store.migrate()
    redis_url = settings.redis_url or redis_server.url(settings.data_dir) or "redis://127.0.0.1:6379/0"
    queue = Queue(redis_url)
    images = Images(settings)
    sharing = Sharing(settings, store)
    champions = Champions(settings.device, load, settings.data_dir / "compiled", sharing.fetch_checkpoint)
    reuse = Reuse(store, champions) if settings.reuse == "on" else None
    return Services(
        settings=settings,
        store=store,
        registry=Registry(store),
        queue=queue,
        inbox=Inbox(store, queue, settings),
        images=images,
        sharing=sharing,
        champions=champions,
        reuse=reuse,
        drafting=Drafting(store, images, champions, settings.blind_share, reuse, settings.withhold_below),
    )
