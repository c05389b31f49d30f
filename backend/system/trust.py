"""Whom https connections trust: one rule for Label Studio's API and for images.

Trusted are the authorities of the system's store, those that requests brings (certifi), and those of the files that
REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE) and SSL_CERT_FILE name, which requests and OpenSSL each know only one of.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from functools import cache
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's numbers for certificates whose authority is not among the trusted ones."""


def context() -> ssl.SSLContext:
    """The TLS settings of every https connection; threads may share them."""
    return _made(_named())[0]


def request(method: str, url: str, **options: Any) -> requests.Response:
    """As `requests.request`, under the rule of this module."""
    with requests.Session() as session:
        if url.lower().startswith("https:"):
            session.mount("https://", _Adapter())
        return session.request(method, url, **options)


def fault(error: BaseException) -> str | None:
    """What is wrong with the https connection that failed so, and what to do; None where it failed otherwise."""
    found = next((each for each in _chain(error) if isinstance(each, ssl.SSLError)), None)
    if not isinstance(found, ssl.SSLCertVerificationError):
        return None if found is None else f"the server does not answer as https should ({found.reason or found})"
    reason = str(found.verify_message).rstrip(".")
    if found.verify_code not in _UNKNOWN_ISSUER:
        return f"the server's certificate is not valid ({reason})"
    others = "".join(f"; {each}" for each in unread())
    return (
        f"the server's certificate is not trusted ({reason}): name a PEM file with the certificate of its authority in "
        f"REQUESTS_CA_BUNDLE or SSL_CERT_FILE{others}"
    )


def unread() -> tuple[str, ...]:
    """A clause for each variable that names a file without certificates."""
    return _made(_named())[1]


class _Adapter(HTTPAdapter):
    """Connections of requests that use `context`, where requests would take certifi or one variable alone."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=context(), **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=context(), **options)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        return super().send(request, *args, **{**options, "verify": True})

    def cert_verify(self, *args: Any) -> None:
        """Nothing: the context has the certificates, and requests would add others."""


def _named() -> tuple[tuple[str, str], ...]:
    return tuple((name, path) for name in VARIABLES if (path := os.environ.get(name)))


@cache
def _made(named: tuple[tuple[str, str], ...]) -> tuple[ssl.SSLContext, tuple[str, ...]]:
    """The context, and a clause for each variable that names no certificates."""
    made = ssl.create_default_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR in the place of the system's own
    default = ssl.get_default_verify_paths()
    for path in (default.openssl_cafile, default.openssl_capath, DEFAULT_CA_BUNDLE_PATH):
        _load(made, path)
    without = [
        f"{name} names {path}, where no certificate can be read"
        for name, path in named
        if name != "SSL_CERT_DIR" and not _load(made, path)
    ]
    return made, tuple(without)


def _load(made: ssl.SSLContext, path: str) -> bool:
    try:
        made.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
    except OSError:  # ssl.SSLError too, where the file has no certificate
        return False
    return True


def _chain(error: Any) -> Iterator[BaseException]:
    """The error and those that led to it; requests and urllib3 keep some as arguments only."""
    if isinstance(error, BaseException):
        yield error
        for cause in (error.__cause__, error.__context__, *error.args, getattr(error, "reason", None)):
            yield from _chain(cause)
