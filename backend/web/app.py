"""The composition root: the rooms of one process, and the Flask application over them."""

from __future__ import annotations

import hmac
import logging
import threading
from dataclasses import dataclass, field

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from backend.corrections.inbox import Inbox
from backend.domain.errors import (
    CaptionerError,
    DatabaseError,
    ImageError,
    LabelStudioError,
    ModelUnavailableError,
    QueueError,
    RegistryError,
    RequestError,
)
from backend.images.cache import Images
from backend.queue import Queue
from backend.serving.champions import Champions, Loader
from backend.serving.drafting import Drafting
from backend.settings import Settings
from backend.store.registry import Registry
from backend.store.store import Store
from backend.system import redis_server
from backend.web.routes import OPEN, routes
from backend.web.watcher import Watcher
from labeling_config import LabelingConfigError

log = logging.getLogger(__name__)

STATUS: tuple[tuple[type[Exception], int], ...] = (
    (RequestError, 400),
    (LabelingConfigError, 400),
    (RegistryError, 404),
    (ImageError, 502),
    (LabelStudioError, 502),
    (ModelUnavailableError, 503),
    (DatabaseError, 503),
    (QueueError, 503),
    (CaptionerError, 500),
)
"""HTTP status by error, the first that fits."""


@dataclass
class Backend:
    """The rooms of one process. Nothing runs and no model is in memory until `start`."""

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


def build(settings: Settings, load: Loader | None = None) -> Backend:
    """The rooms over one data folder; brings the database's schema up to date.

    `load` turns a checkpoint folder into a captioner (default: training's).
    """
    store = Store(settings.database_url)
    store.migrate()
    redis_url = settings.redis_url or redis_server.url(settings.data_dir) or "redis://127.0.0.1:6379/0"
    queue = Queue(redis_url)
    images = Images(settings)
    champions = Champions(settings.device, load)
    return Backend(
        settings=settings,
        store=store,
        registry=Registry(store),
        queue=queue,
        inbox=Inbox(store, queue, settings),
        images=images,
        champions=champions,
        drafting=Drafting(store, images, champions, settings.blind_share),
    )


def create_app(backend: Backend) -> Flask:
    """The ML backend as a WSGI application. Every error is JSON: `{"error": "one sentence"}`."""
    app = Flask("captioner", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 256 * 2**20  # "Create annotations from predictions" sends 5000 tasks at once
    app.register_blueprint(routes(backend))

    @app.before_request
    def authenticate() -> Response | None:
        if request.endpoint in OPEN or _authenticated(backend.settings):
            return None
        answer = _error("The user name or password is missing or wrong: BASIC_AUTH_USER and BASIC_AUTH_PASS.", 401)
        answer.headers["WWW-Authenticate"] = 'Basic realm="captioner"'
        return answer

    @app.errorhandler(Exception)
    def explain(error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return _error(f"{error.name}: {error.description}", error.code or 500)
        for kind, status in STATUS:
            if isinstance(error, kind):
                log.warning("%s %s: %s", request.method, request.path, error)
                return _error(str(error), status)
        log.exception("%s %s failed.", request.method, request.path)
        return _error("Something failed inside the captioner; its log has the details.", 500)

    return app


def _authenticated(settings: Settings) -> bool:
    if settings.basic_auth_user is None:
        return True
    given = request.authorization
    if given is None or given.type != "basic":
        return False
    user = hmac.compare_digest((given.username or "").encode(), settings.basic_auth_user.encode())
    password = hmac.compare_digest((given.password or "").encode(), (settings.basic_auth_pass or "").encode())
    return user and password


def _error(sentence: str, status: int) -> Response:
    answer = jsonify(error=sentence)
    answer.status_code = status
    return answer
