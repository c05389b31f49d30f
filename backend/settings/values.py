"""Types of settings: what their text becomes, or ValueError with what is needed instead."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

_PAGES = re.compile(
    r"/(projects(/\d+(/.*)?)?|tasks/\d+.*|user/(login|signup|account)(/.*)?|organization|people|home)/?$"
)
"""What a browser shows behind the address of Label Studio, which may itself end in a path."""


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError as error:  # asking for a port beyond 65535 raises it too
        raise ValueError("an address such as http://localhost:8080 is needed") from error
    return f"{parts.scheme}://{parts.netloc}{_PAGES.sub('', parts.path)}".rstrip("/")


def password_in(url: str) -> str | None:
    """The password in an address, as it stands there. Database drivers take marks in it that `urlsplit` refuses."""
    user, _, _ = url.partition("://")[2].rpartition("@")
    return user.partition(":")[2] or None


def _matching(pattern: str, otherwise: str) -> AfterValidator:
    """A check that the text begins with the pattern; `otherwise` says what is needed instead."""

    def check(text: str) -> str:
        if not re.match(pattern, text):
            raise ValueError(otherwise)
        return text

    return AfterValidator(check)


def _device(text: str) -> str:
    names = text.split(",")
    gpus = all(re.fullmatch(r"cuda:\d+", name) for name in names) and len(set(names)) == len(names)
    if not (text in {"auto", "cuda"} or set(names) == {"cpu"} or gpus):
        raise ValueError("`auto`, `cpu`, `cuda`, `cuda:N` or several such as `cuda:0,cuda:1` is needed")
    return text


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for host in hosts:
        try:
            if not re.fullmatch(r"(\[[0-9a-f:]+\]|[^\s/:@\[\]]+)(:\d+)?", host):
                raise ValueError
            parts = urlsplit(f"//{host}")
            if host.startswith("["):
                ipaddress.IPv6Address(parts.hostname or "")
            if parts.port == 0:  # asking for it raises ValueError beyond 65535
                raise ValueError
        except ValueError as error:
            raise ValueError(f"{host!r} is not `host` or `host:port`") from error
    return hosts


Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
File = Folder
Port = Annotated[int, Field(ge=1, le=65535)]
Whole = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(ge=0, le=100)]
Gigabytes = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Url = Annotated[str, AfterValidator(_url)]
RedisUrl = Annotated[str, _matching(r"(?i)(rediss?|unix):", "an address such as redis://localhost:6379/0 is needed")]
DatabaseUrl = Annotated[
    str,
    _matching(r"\w+(\+\w+)?://", "an SQLAlchemy address such as postgresql+psycopg://user@host/name is needed"),
]
ImagesUrl = Annotated[
    str,
    _matching(r"\w[\w+.-]*:|[/~.]", "a folder or an address such as s3://bucket/folder is needed"),
    AfterValidator(lambda text: text.rstrip("/")),
]
ApiKey = Annotated[str, _matching(r"[!-~]*\Z", "plain ASCII without blanks is needed, as Label Studio shows it")]
# Label Studio sends other characters as Latin-1, servers read them as UTF-8.
_ASCII = _matching(r"[\0-\x7f]*\Z", "plain ASCII is needed")
Password = Annotated[str, _ASCII]
User = Annotated[str, _matching(r"[^:]*\Z", "a name without a colon is needed"), _ASCII]
Device = Annotated[str, AfterValidator(_device)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(_hosts)]
