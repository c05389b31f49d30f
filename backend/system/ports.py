"""Ports of this machine, and whether a server answers there."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time

import requests

from backend.domain.errors import CaptionerError

POLL_SECONDS = 0.1


def check(port: int, host: str, flag: str, wait_seconds: float = 0.0) -> None:
    """Raises CaptionerError when no server can listen there. Waits `wait_seconds` for a port that is taken."""
    deadline = time.monotonic() + wait_seconds
    while (error := bind_error(port, host)) is not None:
        taken = error.errno == errno.EADDRINUSE
        if not taken or time.monotonic() > deadline:
            cause = (error.strerror or str(error)).lower()
            reason = "is taken by another program" if taken else f"of {host} cannot be used ({cause})"
            raise CaptionerError(f"Port {port} {reason}: choose another with {flag}.")
        time.sleep(POLL_SECONDS)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on this address or name; False for a name unknown."""
    try:
        found = [entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


def free_port() -> int:
    """A port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_healthy(url: str) -> bool:
    """Whether the server at this address answers /health, as the ML backend and Label Studio do."""
    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except requests.RequestException:
        return False


def bind_error(port: int, host: str = "127.0.0.1") -> OSError | None:
    """The error of listening there; None if it works."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None
