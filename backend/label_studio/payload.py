"""Checks of JSON values from Label Studio: ids, times and texts that are invalid are refused or ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import Any

from backend.domain.errors import RequestError

SECRETS = frozenset({"token", "access_token", "task_data_login", "task_data_password"})
GREATEST_ID = 2**63 - 1
"""The largest number of a 64-bit column; Label Studio's ids are 64-bit numbers."""

DEEPEST = 100
"""Greatest nesting depth of a payload; those of Label Studio have about ten levels."""

LONGEST_LEAD_TIME_SECONDS = 1e9


def both(body: Mapping[str, Any], noun: str) -> list[dict[str, Any]]:
    """The objects under the key `noun` and its plural. Label Studio sends an object or a list under either."""
    found: list[Any] = []
    for key in (noun, f"{noun}s"):
        value = body.get(key)
        found += value if isinstance(value, list) else [] if value is None else [value]
    return [object_of(item, f"The {noun} of a webhook call") for item in found]


def reference(value: Any) -> int | None:
    """An id, given as a number or as an object with an "id"; None for anything else."""
    number = value.get("id") if isinstance(value, dict) else value
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= GREATEST_ID else None


def id_of(entry: Mapping[str, Any], noun: str) -> int:
    number = reference(entry.get("id"))
    if number is None:
        raise RequestError(f'The "id" of {noun} is missing or not a 64-bit number.')
    return number


def time_of(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def seconds(value: Any) -> float | None:
    """A duration in seconds; None for anything else, including NaN and huge numbers."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= LONGEST_LEAD_TIME_SECONDS else None


def object_of(value: Any, owner: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{owner} is not a JSON object.")
    return value


def text_at(body: Mapping[str, Any], key: str, owner: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RequestError(f'{owner} has no text "{key}".')
    return value


def optional_text_at(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    if not isinstance(value, str | None):
        raise RequestError(f'The "{key}" of the request is no text.')
    return value.strip() or None if value else None


def flag_at(entry: Mapping[str, Any], key: str, owner: str) -> bool:
    """A missing one is false. A text such as "false" would pass for true."""
    value = entry.get(key)
    if not isinstance(value, bool | None):
        raise RequestError(f'The "{key}" of {owner} is neither true nor false.')
    return bool(value)


def clean(value: Any, without: Set[str] = frozenset(), depth: int = 0) -> Any:
    """The JSON value in a form that every database can store, and without the entries under these keys.

    Half surrogate pairs and NUL become U+FFFD; NaN and infinity, which are not JSON, become null. Raises RequestError
    when the value is nested deeper than anything Label Studio sends.
    """
    if depth > DEEPEST:
        raise RequestError(f"The request is nested more than {DEEPEST} levels deep.")
    if isinstance(value, dict):
        return {clean(key): clean(item, without, depth + 1) for key, item in value.items() if key not in without}
    if isinstance(value, list):
        return [clean(item, without, depth + 1) for item in value]
    if isinstance(value, str):
        if not value.isascii():
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value.replace("\0", "\ufffd")
    return None if isinstance(value, float) and not math.isfinite(value) else value
