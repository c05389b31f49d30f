"""Forms that change something: each is sent by the page that asks, once and soon, or nothing happens.

A browser gives the password of this address to any page that has it send a form here. What says that it comes from
another site is refused before (`backend/web/access`); a token that only pages of this installation know is the second
lock, and keeps one answer from being given to another question.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from pathlib import Path

from backend.domain.errors import CaptionerError, ForbiddenError
from training.runtime.files import atomic_file

SECONDS = 3600
"""How long a page may wait for its answer."""
BYTES = 32


def token(data_dir: Path, *what: str, now: float | None = None) -> str:
    """For the form of a page that asks about exactly this."""
    until = str(int((time.time() if now is None else now) + SECONDS))
    return f"{until}.{_signature(data_dir, until, *what)}"


def check(data_dir: Path, given: str, *what: str) -> None:
    """Raises ForbiddenError, with a sentence, where the form was not sent by a page of ours that asked about exactly
    this, an hour ago at most."""
    until, _, signature = given.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(data_dir, until, *what).encode()):
        raise ForbiddenError(
            "This form does not belong to the page that it names, so nothing was changed: open it again."
        )
    if int(until) < time.time():
        raise ForbiddenError("This form was opened more than an hour ago, so nothing was changed: open it again.")


def _signature(data_dir: Path, *signed: str) -> str:
    parts = "".join(f"{len(part)}:{part}" for part in signed)  # or two other parts could be the same text
    return hmac.new(_secret(data_dir), parts.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _secret(data_dir: Path) -> bytes:
    """Of this installation, made when it is first needed. It is read each time, because other processes share it."""
    file = data_dir / "run" / "pages.key"
    try:
        if not file.exists() or file.stat().st_size < BYTES:
            with atomic_file(file, private=True) as unfinished:
                unfinished.write_bytes(secrets.token_bytes(BYTES))
        return file.read_bytes()
    except OSError as error:
        raise CaptionerError(
            f"The key of the status page's forms, {file}, cannot be used: {error.strerror}."
        ) from error
