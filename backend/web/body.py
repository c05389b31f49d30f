"""The body of a request: read whole, and decoded as one JSON object."""

from __future__ import annotations

from typing import Any

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from backend.domain.errors import RequestError


def json_object() -> dict[str, Any]:
    """The body of the request. Raises RequestError when it cannot be read or is no JSON object."""
    _read()
    try:
        payload = request.get_json(force=True, silent=True)
    except RecursionError as error:
        raise RequestError("The request body is nested too deep.") from error
    if not isinstance(payload, dict):
        raise RequestError("The request body is not a JSON object.")
    return payload


def _read() -> bytes:
    try:
        return request.get_data()
    except (RequestEntityTooLarge, MemoryError):
        raise
    except Exception as error:  # each WSGI server has errors of its own for chunks that break the rules
        raise RequestError(
            "The request body cannot be read: it ends too early or its chunks break the rules of HTTP/1.1. "
            "Send it whole, best with a Content-Length."
        ) from error
