"""The body of a request: read whole, and decoded as one JSON object, or as the fields of a form.

Python's decoder in C keeps the interpreter from all other threads until it is done, and so does freeing a large object.
The bounds below keep that short, and a large body is decoded with turns for other threads, so that /health answers
whatever is sent.
"""

from __future__ import annotations

import json
from json import scanner
from typing import Any
from urllib.parse import parse_qsl

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from backend.domain.errors import RequestError

MOST_BYTES = 128 * 2**20
"""Label Studio sends up to 5000 tasks with their annotations at once, about 25 MB; an import sends all its tasks."""
MOST_CONTAINERS = 500_000
"""Lists and objects in a body; a task and its annotation have about a dozen."""
MOST_VALUES = 4_000_000
"""Commas in a body, and escaped characters in its texts; a task and its annotation have about 65 values."""
QUICK_BYTES = 256 * 2**10
"""A body up to this size is decoded in one go, in a few milliseconds."""


FORM_BYTES, FIELDS = 64 * 2**10, 20
"""What a form may hold; those of the status page hold a few short texts."""


class _Yielding(json.JSONDecoder):
    """The standard library's decoder in Python: it takes four times as long, and other threads get their turns."""

    def __init__(self) -> None:
        super().__init__()
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def json_object() -> dict[str, Any]:
    """The body of the request. Raises RequestError when it cannot be read, holds too much or is no JSON object."""
    body = _read()
    _check(body)
    decoder = json.JSONDecoder() if len(body) <= QUICK_BYTES else _Yielding()
    try:
        payload = decoder.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError as error:
        raise RequestError("The request body is nested too deep.") from error
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise RequestError("The request body is not a JSON object.")
    return payload


def form() -> dict[str, str]:
    """The fields of the form that is sent. Raises RequestError or RequestEntityTooLarge as `json_object` does."""
    request.max_content_length = FORM_BYTES
    try:
        return dict(parse_qsl(_read().decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError as error:
        raise RequestError(f"The form has more than {FIELDS} fields.") from error


def _read() -> bytes:
    try:
        return request.get_data(cache=False)
    except (RequestEntityTooLarge, MemoryError):
        raise
    except Exception as error:  # each WSGI server has errors of its own for chunks that break the rules
        raise RequestError(
            "The request body cannot be read: it ends too early or its chunks break the rules of HTTP/1.1. "
            "Send it whole, best with a Content-Length."
        ) from error


def _check(body: bytes) -> None:
    """Brackets and commas in texts count too: there are few, and telling them apart takes a decoder."""
    if body.count(b"[") + body.count(b"{") > MOST_CONTAINERS:
        raise RequestError(f"The request body has more than {MOST_CONTAINERS:,} lists and objects: send fewer tasks.")
    if body.count(b",") > MOST_VALUES or body.count(b"\\") > MOST_VALUES:
        raise RequestError(f"The request body has more than {MOST_VALUES:,} values: send fewer tasks.")
