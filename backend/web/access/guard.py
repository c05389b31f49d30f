"""Whether a request is let in: a user and password (Basic), or a machine's token (Bearer)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from flask import Request
from werkzeug.datastructures import Authorization

from backend.settings import Settings
from backend.settings.tokens import Scope, Tokens
from backend.web.access.guesses import Guesses

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let in, as a sentence, its status and headers of the answer."""

    sentence: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


class Guard:
    """Lets in who gives the user and password, or a token of the file; everybody where neither is set."""

    def __init__(self, settings: Settings, guesses: Guesses | None = None) -> None:
        """Raises SettingsError when the file of tokens cannot be read."""
        self._basic = settings.basic_auth
        self._tokens = Tokens(settings.tokens_file) if settings.tokens_file else None
        self._guesses = guesses or Guesses()
        self.schemes = tuple(
            name for name, known in (("basic", self._basic), ("bearer", self._tokens)) if known is not None
        )
        """What may be given."""

    def refusal(self, request: Request) -> Refusal | None:
        """Why the request is not let in; None when it is."""
        if request.method not in READING and _is_of_another_site(request):
            return Refusal("A page of another site may not send this request.", 403)
        if not self.schemes:
            return None
        address, given = request.remote_addr or "", request.authorization
        if given is None:
            return self._wrong()
        if seconds := self._guesses.wait_seconds(address):
            sentence = f"Too many different wrong passwords or tokens came from your address: wait {seconds} s."
            return Refusal(sentence, 429, {"Retry-After": str(seconds)})
        scope = self._scope(given)
        if scope is None:
            self._guesses.wrong(address, request.headers.get("Authorization", ""))
            return self._wrong()
        if scope == "read" and request.method not in READING:
            return Refusal("The token may only read: give one with the scope `write`.", 403)
        return None

    def _scope(self, given: Authorization) -> Scope | None:
        if given.type == "basic" and self._basic is not None:
            user = hmac.compare_digest((given.username or "").encode(), self._basic[0].encode())
            password = hmac.compare_digest((given.password or "").encode(), self._basic[1].encode())
            return "write" if user and password else None
        if given.type == "bearer" and self._tokens is not None:
            return self._tokens.scope(given.token or "")
        return None

    def _wrong(self) -> Refusal:
        needed = {
            "basic": "the user name and password (BASIC_AUTH_USER and BASIC_AUTH_PASS)",
            "bearer": "a token of CAPTIONER_TOKENS_FILE",
        }
        asked = ", or ".join(needed[scheme] for scheme in self.schemes)
        header = {"basic": 'Basic realm="captioner"', "bearer": 'Bearer realm="captioner"'}[self.schemes[0]]
        return Refusal(f"The credentials are missing or wrong: give {asked}.", 401, {"WWW-Authenticate": header})


def _is_of_another_site(request: Request) -> bool:
    """Whether a browser sends it for a page from elsewhere; it would add the password that it has for this one.

    Programs send neither header.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"cross-site", "same-site"}
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != request.host
