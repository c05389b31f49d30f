"""What is recorded about every request: an id in what is logged meanwhile, how it was answered, how long that took."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any
from uuid import uuid4

from flask import Flask, Response, g, request

from backend.system import logs, metrics

HEADER = "X-Request-ID"


def observe(app: Flask) -> None:
    """Name and count each request of the application, one without the password too."""
    answer = app.wsgi_app

    def named(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        given = str(environ.get("HTTP_X_REQUEST_ID", ""))
        # What is logged must not be forged by whoever sends a request.
        known = re.fullmatch(r"[A-Za-z0-9._:-]{1,100}", given)
        with logs.working_on({"request": given if known else uuid4().hex}):
            return answer(environ, start)

    app.wsgi_app = named  # type: ignore[assignment, method-assign]

    @app.before_request
    def begin() -> None:
        g.began = perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        response.headers[HEADER] = logs.ids().get("request", "")
        # Paths that are none are one endpoint, or whoever asks for them would fill the memory.
        endpoint = (request.endpoint or "none").removeprefix("captioner.")
        metrics.REQUESTS.labels(endpoint, response.status_code).inc()
        metrics.REQUEST_SECONDS.labels(endpoint).observe(perf_counter() - g.began)
        return response
