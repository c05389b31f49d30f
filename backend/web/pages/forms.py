"""Forms that change something: each is sent by the page that asks, once and soon, or nothing happens.

A browser gives the password of this address to any page that has it send a form here. What says that it comes from
another site is refused before (`backend/web/access`); a token that only who has the password can make is the second
lock, and keeps one answer from being given to another question. Every web process has the password, on any machine.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from functools import cache

from backend.domain.errors import ForbiddenError

SECONDS = 3600
"""How long a page may wait for its answer."""
ROUNDS = 100_000
"""Making the key takes some tens of milliseconds, so that a token is of little use for guessing the password."""


@cache
def key(user: str, password: str) -> bytes:
    """By which tokens are signed."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), f"forms of {user}".encode(), ROUNDS)


def token(key: bytes, *what: str, now: float | None = None) -> str:
    """For the form of a page that asks about exactly this."""
    until = str(int((time.time() if now is None else now) + SECONDS))
    return f"{until}.{_signature(key, until, *what)}"


def check(key: bytes, given: str, *what: str) -> None:
    """Raises ForbiddenError, with a sentence, where the form was not sent by a page of ours that asked about exactly
    this, an hour ago at most."""
    until, _, signature = given.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(key, until, *what).encode()):
        raise ForbiddenError(
            "This form does not belong to the page that it names, so nothing was changed: open it again."
        )
    if int(until) < time.time():
        raise ForbiddenError("This form was opened more than an hour ago, so nothing was changed: open it again.")


def _signature(key: bytes, *signed: str) -> str:
    parts = "".join(f"{len(part)}:{part}" for part in signed)  # or two other parts could be the same text
    return hmac.new(key, parts.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
