"""The Flask application over the services of one process."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from flask import Flask, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from backend.domain.errors import (
    BusyError,
    CaptionerError,
    DatabaseError,
    ForbiddenError,
    ImageError,
    LabelStudioError,
    ModelUnavailableError,
    OvertakenError,
    QueueError,
    RegistryError,
    RequestError,
)
from backend.web.access.guard import Guard
from backend.web.body import MOST_BYTES
from backend.web.observing import observe
from backend.web.pages import answers
from backend.web.pages.blueprint import pages
from backend.web.routes import WITHOUT_PASSWORD, routes
from backend.web.services import Services
from labeling_config import LabelingConfigError

log = logging.getLogger(__name__)

MOST_UNWANTED_BYTES = 2**20
"""Of the body of a request that is not let in, so much is read and thrown away."""

STATUS: tuple[tuple[type[Exception], int], ...] = (
    (RequestError, 400),
    (LabelingConfigError, 400),
    (ForbiddenError, 403),
    (OvertakenError, 409),
    (RegistryError, 404),
    (ImageError, 502),
    (LabelStudioError, 502),
    (ModelUnavailableError, 503),
    (BusyError, 503),
    (DatabaseError, 503),
    (QueueError, 503),
    (CaptionerError, 500),
)
"""HTTP status of an error: that of the first class it is an instance of."""


def create_app(services: Services) -> Flask:
    """The ML backend as a WSGI application. Every error is answered as JSON: `{"error": "one sentence"}`, or as a page
    with the sentence where a browser asked for a page."""
    app = Flask("captioner", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    guard = Guard(services.settings)
    answers.prepare(app)
    app.register_blueprint(routes(services))
    app.register_blueprint(pages(services))
    observe(app)

    @app.get("/openapi.json", endpoint="captioner.openapi")
    def openapi() -> dict[str, Any]:
        from backend.web.openapi.description import document  # its schemas take time, and few ask for them

        return document(app, guard.schemes)

    @app.before_request
    def authenticate() -> ResponseReturnValue | None:
        if request.endpoint in WITHOUT_PASSWORD or not (refusal := guard.refusal(request)):
            return None
        with suppress(Exception):  # a connection that is closed over an unread body loses the answer on its way
            request.stream.read(MOST_UNWANTED_BYTES)
        return answers.error(refusal.sentence, refusal.status, refusal.headers)

    @app.errorhandler(Exception)
    def explain(error: Exception) -> ResponseReturnValue:
        if isinstance(error, HTTPException):
            return answers.error(f"{error.name}: {error.description}", error.code or 500)
        for kind, status in STATUS:
            if isinstance(error, kind):
                log.warning("%s %s: %s", request.method, request.path, error)
                headers = {"Retry-After": str(error.RETRY_SECONDS)} if isinstance(error, BusyError) else {}
                return answers.error(str(error), status, headers)
        log.exception("%s %s failed.", request.method, request.path)
        return answers.error("Something failed inside the captioner; its log has the details.", 500)

    return app
