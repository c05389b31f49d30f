"""One guarded HTTP GET: every redirect is checked, credentials are bound to one origin, size and time are limited.

It uses http.client because overriding `connect` there is a public way to use the guarded socket, and no proxy or other
environment variable can redirect it.
"""

from __future__ import annotations

import http.client
import time
from urllib.parse import urljoin, urlsplit, urlunsplit

from requests.utils import requote_uri

from backend.domain.errors import ImageError, UnreachableImageError
from backend.images.addresses import AddressGuard, Origin
from backend.images.compression import decompressed
from backend.images.connections import Connections
from backend.images.inline import is_inline, named
from backend.system import trust

LATER = frozenset({408, 425, 429})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
MAX_BYTES = 50 * 1024 * 1024
_HEADERS = {"User-Agent": "label-studio-captioner", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}


class StatusError(ImageError):
    """The host answered without the image."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Downloader:
    """Downloads over the guard's connections. Threads may share it."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        max_bytes: int = MAX_BYTES,
        total_timeout_seconds: float = 30.0,
    ) -> None:
        self._connections = Connections(guard)
        self._max_bytes = max_bytes
        self._total_timeout_seconds = total_timeout_seconds

    def get(self, url: str, *, authorization: str | None = None, owner: Origin | None = None) -> bytes:
        """The body at `url`, redirects followed.

        `authorization` is sent to `owner` only, and only until a redirect leaves it: one that comes back from another
        host gets no credentials either. Raises ImageError in one sentence.
        """
        asked, deadline = shown(url), time.monotonic() + self._total_timeout_seconds
        for _ in range(MAX_REDIRECTS + 1):
            origin = Origin.of(url)
            if origin != owner:
                authorization = None
            try:
                status, location, body = self._hop(origin, url, authorization, deadline)
                url = urljoin(url, location or "")
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = trust.fault(error) or str(error) or type(error).__name__
                if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
                    reason = f"it took longer than {self._total_timeout_seconds:g} seconds"
                # an error of a certificate is a ValueError as well
                kind = UnreachableImageError if isinstance(error, OSError | http.client.HTTPException) else ImageError
                raise kind(f"The image {asked} could not be fetched: {reason}.") from error
            if status == 200:
                return body
            if status in LATER or status >= 500:
                raise UnreachableImageError(f"The image {asked} could not be fetched: {origin.host} answered {status}.")
            if status not in REDIRECTS or not location:
                raise StatusError(f"The image {asked} could not be fetched: {origin.host} answered {status}.", status)
        raise ImageError(f"The image {asked} could not be fetched: more than {MAX_REDIRECTS} redirects.")

    def _hop(
        self, origin: Origin, url: str, authorization: str | None, deadline: float
    ) -> tuple[int, str | None, bytes]:
        """Status, Location and, where the status is 200, the body of one request.

        Raises ImageError when the guard or the size limit refuses, OSError and HTTPException as they come.
        """
        parts = urlsplit(requote_uri(url))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        credentials = {"Authorization": authorization} if authorization else {}
        with self._connections.get(origin, target, _HEADERS | credentials, deadline) as response:
            body = self._body(response, shown(url)) if response.status == 200 else b""
        return response.status, response.headers.get("Location"), body

    def _body(self, response: http.client.HTTPResponse, where: str) -> bytes:
        expected = response.length  # None where the body is chunked or ends with the connection
        body = bytearray()
        while (expected or 0) <= self._max_bytes and (block := response.read(64 * 1024)):
            body += block
            if len(body) > self._max_bytes:
                break
        if max(expected or 0, len(body)) > self._max_bytes:
            raise self._too_large(where)
        if expected is not None and len(body) < expected:
            raise http.client.IncompleteRead(bytes(body), expected - len(body))
        encoding = ",".join(response.headers.get_all("Content-Encoding", []))
        try:
            content = decompressed(bytes(body), encoding, self._max_bytes)
        except EOFError as error:
            raise http.client.IncompleteRead(bytes(body)) from error
        if len(content) > self._max_bytes:
            raise self._too_large(where)
        return content

    def _too_large(self, where: str) -> ImageError:
        return ImageError(f"The image {where} is larger than {self._max_bytes / 2**20:g} MB.")


def shown(url: str) -> str:
    """The address without user, password and query, so that logs hold no credentials or signatures."""
    if is_inline(url):
        return named(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return repr(url[:200])
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:200]
