"""A limit to guessing: wrong passwords and tokens are counted by the address that they come from."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

log = logging.getLogger(__name__)

MOST = 10
"""Different wrong ones from one address within `WINDOW_SECONDS`; more are refused unread. A program that repeats the
password of last week guesses nothing, and counts once."""
WINDOW_SECONDS = 600.0
MOST_ADDRESSES = 10_000
"""Addresses that are remembered, about 10 MB; the one that guessed longest ago is forgotten first."""


class Guesses:
    """The wrong credentials of each address, in this process. Threads may share it.

    Nobody at one address can keep the right credentials of another out. The address is that of the connection: no
    header can forge it, and all who come through one proxy have the same.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, dict[bytes, float]] = OrderedDict()
        self._key = secrets.token_bytes(32)  # what lies in memory is no password, and no hash that could be looked up

    def wait_seconds(self, address: str) -> int:
        """How long no credentials of this address are checked; 0: they are."""
        with self._lock:
            known = self._recent(_network(address))
            if len(known) < MOST:
                return 0
            return max(1, math.ceil(min(known.values()) + WINDOW_SECONDS - self._clock()))

    def wrong(self, address: str, credentials: str) -> None:
        """Remember that these credentials are wrong."""
        network = _network(address)
        digest = hashlib.blake2b(credentials.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16).digest()
        with self._lock:
            known = self._recent(network)
            known.setdefault(digest, self._clock())
            self._wrong[network] = known
            self._wrong.move_to_end(network)
            while len(self._wrong) > MOST_ADDRESSES:
                self._wrong.popitem(last=False)
            reached = len(known) == MOST and known[digest] == max(known.values())
        if reached:
            log.warning(
                "%d different wrong passwords or tokens came from %s: more are refused for a while.", MOST, network
            )

    def _recent(self, network: str) -> dict[bytes, float]:
        since = self._clock() - WINDOW_SECONDS
        return {digest: at for digest, at in self._wrong.get(network, {}).items() if at > since}


def _network(address: str) -> str:
    """The address, or for IPv6 the network of 64 bits: whoever has one such address has all of them."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has none
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed), 64), strict=False))
