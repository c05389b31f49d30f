"""The two kinds of Label Studio token, and the header of each."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable

import requests

from backend.domain.errors import LabelStudioError, LabelStudioUnreachableError
from backend.system import trust

REFRESH_AFTER_SECONDS = 240.0
"""Label Studio's access tokens are valid for 300 seconds; the margin is for the time a request takes."""

TIMEOUT_SECONDS = (5.0, 30.0)


def is_personal(key: str) -> bool:
    """Whether `key` is a personal access token, which is a JWT; any other key is a legacy token."""
    parts = key.split(".")
    if len(parts) != 3:
        return False
    try:
        head = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except ValueError:
        return False
    return isinstance(head, dict) and "alg" in head


class Token:
    """An API key of either kind as an Authorization header. Threads may share it.

    A personal access token is never sent as a header: it is exchanged for an access token, which is renewed in time.
    """

    def __init__(self, url: str, key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url.rstrip("/")
        self._key = key.strip()
        self.personal = is_personal(self._key)
        self._clock = clock
        self._lock = threading.Lock()
        self._access: str | None = None
        self._expires = 0.0

    def header(self) -> dict[str, str]:
        """`{"Authorization": …}`, valid for the next minute.

        Raises LabelStudioError when a personal access token is refused or Label Studio cannot be reached.
        """
        if not self.personal:
            return {"Authorization": f"Token {self._key}"}
        with self._lock:
            if self._access is None or self._clock() >= self._expires:
                asked = self._clock()
                self._access = self._exchange()
                self._expires = asked + REFRESH_AFTER_SECONDS
            return {"Authorization": f"Bearer {self._access}"}

    def forget(self) -> None:
        """Get a new access token for the next header, because Label Studio refused this one."""
        with self._lock:
            self._access = None

    def _exchange(self) -> str:
        address = f"{self.url}/api/token/refresh/"
        try:
            answer = trust.request(
                "POST",
                address,
                json={"refresh": self._key},
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,  # the token must not be sent to another host
                auth=lambda request: request,  # or requests would use credentials of ~/.netrc
            )
        except requests.RequestException as error:
            reason = trust.fault(error) or "check LABEL_STUDIO_URL and that it is running"
            raise LabelStudioUnreachableError(f"Label Studio at {self.url} cannot be reached; {reason}.") from error
        if answer.status_code == 401:
            raise LabelStudioError(
                f"Label Studio at {self.url} refuses the personal access token: it was revoked, has expired or is of "
                f"another Label Studio; create a new one under Account & Settings and set LABEL_STUDIO_API_KEY."
            )
        if answer.status_code >= 500:
            raise LabelStudioUnreachableError(f"{address} answered {answer.status_code}; look at Label Studio's log.")
        try:
            access = answer.json()["access"] if answer.status_code == 200 else None
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str) or not access:
            raise LabelStudioError(
                f"{address} answered {answer.status_code} without an access token; check that LABEL_STUDIO_URL is the "
                f"address of a Label Studio."
            )
        return access
