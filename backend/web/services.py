"""The composition root: the services of one process, over one data folder."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from backend.corrections.inbox import Inbox
from backend.images.cache import Images
from backend.queue import Queue
from backend.serving.champions import Champions, Loader
from backend.serving.drafting import Drafting
from backend.settings import Settings
from backend.store.registry import Registry
from backend.store.store import Store
from backend.system import redis_server
from backend.web.watcher import Watcher

log = logging.getLogger(__name__)


@dataclass
class Services:
    """The services of one process. Nothing runs and no model is in memory until `start`."""

    settings: Settings
    store: Store
    registry: Registry
    queue: Queue
    inbox: Inbox
    images: Images
    champions: Champions
    drafting: Drafting
    _looked: threading.Event = field(default_factory=threading.Event)
    _watcher: Watcher | None = None
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Load the champions in the background and keep watching for new ones; a second call changes nothing."""
        with self._starting:
            if self._watcher is not None:
                return
            self._watcher = Watcher(self)
            threading.Thread(target=self._first_look, args=(self._watcher,), name="first look", daemon=True).start()

    def await_champions(self, timeout_seconds: float) -> bool:
        """Wait for the champions of before the start to be loaded, so that nobody is told meanwhile there is none."""
        return self._watcher is None or self._looked.wait(timeout_seconds)

    def stop(self) -> None:
        """End the watching; for tests and short-lived processes."""
        if self._watcher is not None:
            self._looked.wait()
            self._watcher.stop()

    def _first_look(self, watcher: Watcher) -> None:
        try:
            watcher.look()
        except Exception:  # the watcher looks again in a second, and reports what goes on failing
            log.exception("The champions could not be loaded at the start.")
        finally:
            watcher.start()
            self._looked.set()


def build(settings: Settings, load: Loader | None = None) -> Services:
    """The services over one data folder; brings the database's schema up to date.

    `load` turns a checkpoint folder into a captioner (default: training's).
    """
    store = Store(settings.database_url)
    store.migrate()
    redis_url = settings.redis_url or redis_server.url(settings.data_dir) or "redis://127.0.0.1:6379/0"
    queue = Queue(redis_url)
    images = Images(settings)
    champions = Champions(settings.device, load)
    return Services(
        settings=settings,
        store=store,
        registry=Registry(store),
        queue=queue,
        inbox=Inbox(store, queue, settings),
        images=images,
        champions=champions,
        drafting=Drafting(store, images, champions, settings.blind_share),
    )
