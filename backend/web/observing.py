"""What is told of every request: how it was answered, and how long that took."""

from __future__ import annotations

from time import perf_counter

from flask import Flask, Response, g, request

from backend.system import metrics


def observe(app: Flask) -> None:
    """Count each request of the application, one without the password too."""

    @app.before_request
    def begin() -> None:
        g.began = perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        # Paths that are none are one endpoint, or whoever asks for them would fill the memory.
        endpoint = (request.endpoint or "none").removeprefix("captioner.")
        metrics.REQUESTS.labels(endpoint, response.status_code).inc()
        metrics.REQUEST_SECONDS.labels(endpoint).observe(perf_counter() - g.began)
        return response
