"""What the text of a setting means: a checked value, or ValueError with what is needed instead."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit


def text(text: str) -> str | None:
    return text or None


def port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError("a whole number of at least 1 is needed")
    return int(text)


def number(text: str, most: float = 100) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise ValueError(f"a number from 0 to {most:g} is needed")
    return value


def share(text: str) -> float:
    return number(text, most=1)


def deleted_tasks(text: str) -> str:
    if text not in {"forget", "keep"}:
        raise ValueError("`forget` or `keep` is needed")
    return text


def rehearsal(text: str) -> str:
    if text not in {"own", "human"}:
        raise ValueError("`own` or `human` is needed")
    return text


def url(text: str) -> str | None:
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an address such as http://localhost:8080 is needed")
    return text.rstrip("/")


def redis_url(text: str) -> str | None:
    if text and urlsplit(text).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("an address such as redis://localhost:6379/0 is needed")
    return text or None


def database_url(text: str) -> str | None:
    if text and not re.match(r"^\w+(\+\w+)?://", text):
        raise ValueError("an SQLAlchemy address such as postgresql+psycopg://user@host/name is needed")
    return text or None


def device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError("`auto`, `cpu`, `cuda` or `cuda:N` is needed")
    return text


def promotion(text: str) -> str:
    if text not in {"auto", "manual"}:
        raise ValueError("`auto` or `manual` is needed")
    return text


def policy(text: str) -> str:
    if text not in {"margin", "improvement"}:
        raise ValueError("`margin` or `improvement` is needed")
    return text


def hosts(text: str) -> tuple[str, ...]:
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


def path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def images_url(text: str) -> str | None:
    if text and not re.match(r"^\w[\w+.-]*:", text) and not text.startswith(("/", "~", ".")):
        raise ValueError("a folder or an address such as s3://bucket/folder is needed")
    return text.rstrip("/") or None
