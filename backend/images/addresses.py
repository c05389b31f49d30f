"""The guard of outgoing connections: images are fetched from allowed addresses only.

Whoever may import tasks writes their image references, which must not reach into this process's own network. The guard
checks addresses, not names, and connects to the very address it checked, so that a name which resolves differently a
moment later (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from backend.domain.errors import ImageError, UnreachableImageError
from backend.images.inline import named

Resolver = Callable[[str, int], list[str]]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_OF_CLOUDS = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure: WireServer, DNS, DHCP
            "192.0.0.0/24",  # Oracle: instance metadata; `ipaddress` calls it global before Python 3.11.9
            "192.80.8.124/32",  # Equinix Metal: instance metadata
            "161.26.0.0/16",  # IBM: services of the platform
            "166.8.0.0/14",  # IBM: endpoints of cloud services
        ),
    )
)
"""Formally public addresses at which a cloud platform serves its own machines. Other platforms use private, shared or
link-local ones."""


class Origin(NamedTuple):
    """Scheme, host and port of an address; a credential belongs to one origin."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Raises ImageError where `url` is not an http(s) address."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ImageError(f"{named(url)[:200]!r} is not an address: {error}.") from error
        if parts.scheme not in {"http", "https"} or not host:
            raise ImageError(f"{named(url)[:200]!r} is not an http(s) address.")
        return cls(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class AddressGuard:
    """Connects to public addresses, and to others only where the operator named the host.

    `trusted` is Label Studio's configured address, whose host and port are exempt. `hosts` are CAPTIONER_IMAGE_HOSTS:
    `host` exempts every port of it, `host:port` only that one.
    """

    def __init__(self, trusted: str | None = None, hosts: Iterable[str] = (), resolve: Resolver | None = None) -> None:
        self._named: set[tuple[str, int | None]] = set()
        if trusted:
            origin = Origin.of(trusted)
            self._named.add((origin.host, origin.port))
        for entry in hosts:
            parts = urlsplit(f"//{entry}")
            self._named.add(((parts.hostname or "").lower(), parts.port))
        self._resolve = resolve or resolve_host

    def connect(self, host: str, port: int, timeout_seconds: float) -> socket.socket:
        """A socket connected to an allowed address of `host`. Raises ImageError when it has none, or none answers."""
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise UnreachableImageError(f"The host {host} is not known: check the address of the image.") from error
        is_named = not self._named.isdisjoint({(host.lower(), port), (host.lower(), None)})
        allowed = [address for address in addresses if is_named or is_public(address)]
        if not allowed:
            raise ImageError(
                f"{host} is a private or local address or a cloud platform's own, from which images are not fetched "
                f"unless CAPTIONER_IMAGE_HOSTS names {host}:{port}."
            )
        failure: OSError | None = None
        for address in allowed:
            try:
                # The address is a literal, so no name is resolved a second time here.
                return socket.create_connection((address, port), timeout_seconds)
            except OSError as error:
                failure = error
        raise UnreachableImageError(f"{host}:{port} cannot be reached: {failure}.") from failure


def resolve_host(host: str, port: int) -> list[str]:
    """Every address of `host`, in the system's order of preference. Raises OSError where it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether `address` is on the open internet: not private, loopback, link-local, multicast, reserved or shared, and
    not a cloud platform's own.

    An IPv4 address carried inside an IPv6 one (mapped, 6to4, Teredo, NAT64) counts as the IPv4 address.
    """
    parsed = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = _carried(parsed)
        if inner is not None:
            return is_public(str(inner))
        if parsed.is_site_local:  # deprecated, but still routed inside some networks; ipaddress calls it global
            return False
    elif any(parsed in network for network in _OF_CLOUDS):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
