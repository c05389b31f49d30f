"""Connections that are kept for the next request to the same origin, and turns at each host."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from backend.images.addresses import AddressGuard, Origin
from backend.system import trust

AT_ONCE = 6
"""Requests to one host at the same time, as many as browsers make: Label Studio's own server has few workers, which its
annotators need."""
MOST_IDLE = 24
"""Connections that wait for a request, of all hosts together."""
IDLE_SECONDS = 4.0
"""How long one waits, which is less than the five seconds after which many servers close it."""
CONNECT_TIMEOUT_SECONDS = 5.0


class UnansweredError(http.client.RemoteDisconnected):
    """The server closed the connection before the first byte of an answer."""


class Connections:
    """The guard's connections by origin. Threads may share it.

    The address was checked when the connection was made, and it stays connected to that address. One is kept only after
    an answer that was read to its end and that lets it go on.
    """

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._changed = threading.Condition()
        self._busy: Counter[str] = Counter()  # requests by host
        self._idle: list[tuple[float, Origin, _Connection]] = []  # since when; the last one waits for the shortest time
        self._sweeper: threading.Timer | None = None

    @contextmanager
    def get(
        self, origin: Origin, target: str, headers: Mapping[str, str], deadline: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one GET, to be read in the block, which waits for its turn at the host.

        A kept connection that the server has closed meanwhile is replaced by a new one. Raises TimeoutError at the
        deadline (by `time.monotonic`), ImageError where the guard refuses, OSError and HTTPException as they come.
        """
        with self._turn(origin.host, deadline):
            connection, response = self._ask(origin, target, headers, deadline)
            reusable = False
            try:
                yield response
                _left_seconds(deadline)
                if response.length == 0:
                    response.read()  # nothing is left of an answer without a body, but http.client waits to be told
                reusable = response.isclosed() and not response.will_close
            finally:
                if reusable:
                    self._keep(origin, connection)
                else:
                    connection.end()

    def _ask(
        self, origin: Origin, target: str, headers: Mapping[str, str], deadline: float
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        kept = self._take(origin)
        if kept is not None:
            with contextlib.suppress(UnansweredError):  # the server has closed it meanwhile
                return kept, kept.ask(target, headers, deadline)
        kind = _SecureConnection if origin.scheme == "https" else _Connection
        raw = self._guard.connect(origin.host, origin.port, min(CONNECT_TIMEOUT_SECONDS, _left_seconds(deadline)))
        connection = kind(origin, raw)
        return connection, connection.ask(target, headers, deadline)

    @contextmanager
    def _turn(self, host: str, deadline: float) -> Iterator[None]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._busy[host] < AT_ONCE, max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            self._busy[host] += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy[host] -= 1
                if not self._busy[host]:
                    del self._busy[host]
                self._changed.notify_all()

    def _take(self, origin: Origin) -> _Connection | None:
        """The connection to the origin that was used last, if one waits on which the server has said nothing more."""
        self._close_old()
        while True:
            with self._changed:
                place = next((n for n in reversed(range(len(self._idle))) if self._idle[n][1] == origin), None)
                if place is None:
                    return None
                connection = self._idle.pop(place)[2]
            if connection.is_quiet():
                return connection
            connection.end()

    def _keep(self, origin: Origin, connection: _Connection) -> None:
        connection.stop_clock()
        with self._changed:
            self._idle.append((time.monotonic(), origin, connection))
            excess = [self._idle.pop(0)[2] for _ in range(len(self._idle) - MOST_IDLE)]
            if self._sweeper is None:
                self._sweep_later()
        for oldest in excess:
            oldest.end()

    def _close_old(self) -> None:
        since = time.monotonic() - IDLE_SECONDS
        with self._changed:
            old = [each for began, _, each in self._idle if began <= since]
            self._idle = self._idle[len(old) :]
        for connection in old:
            connection.end()

    def _sweep_later(self) -> None:
        self._sweeper = threading.Timer(IDLE_SECONDS, self._sweep)
        self._sweeper.daemon = True
        self._sweeper.start()

    def _sweep(self) -> None:
        """Close what has waited too long, also where no further request comes."""
        self._close_old()
        with self._changed:
            self._sweeper = None
            if self._idle:
                self._sweep_later()


class _Response(http.client.HTTPResponse):
    def begin(self) -> None:
        stream: Any = self.fp
        try:
            begun = stream.peek(1)
        except ConnectionError as error:
            raise UnansweredError(str(error)) from error
        if not begun:
            raise UnansweredError("Remote end closed connection without response")
        super().begin()


class _Connection(http.client.HTTPConnection):
    """Uses the given socket and opens none."""

    response_class = _Response

    def __init__(self, origin: Origin, connected: socket.socket) -> None:
        super().__init__(origin.host, origin.port)
        self._connected = connected
        self._clock: threading.Timer | None = None
        self._duplicate: socket.socket | None = None

    def ask(self, target: str, headers: Mapping[str, str], deadline: float) -> http.client.HTTPResponse:
        """The answer to one GET; until `stop_clock` the connection ends at the deadline. An error ends it at once.

        Raises UnansweredError where the server closes the connection instead of answering.
        """
        try:
            self._start_clock(_left_seconds(deadline))
            if self.sock is None:
                self.connect()
            try:
                self.request("GET", target, headers=dict(headers))
            except (ConnectionError, ssl.SSLEOFError) as error:
                raise UnansweredError(str(error)) from error
            return self.getresponse()
        except BaseException:
            self.end()
            raise

    def _start_clock(self, seconds: float) -> None:
        """A timeout on the socket restarts with every byte; the clock also ends the connection of a slow server."""
        connected = self.sock or self._connected
        connected.settimeout(seconds)
        self._duplicate = socket.socket(fileno=os.dup(connected.fileno()))
        self._clock = threading.Timer(seconds, _hang_up, (self._duplicate,))
        self._clock.daemon = True
        self._clock.start()

    def stop_clock(self) -> None:
        if self._clock is not None and self._duplicate is not None:
            self._clock.cancel()
            self._duplicate.close()

    def is_quiet(self) -> bool:
        """Whether the server neither closed the connection nor sent what nobody asked for."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def connect(self) -> None:
        self.sock = self._connected

    def end(self) -> None:
        self.stop_clock()
        self.close()
        self._connected.close()


class _SecureConnection(_Connection):
    def connect(self) -> None:
        # The certificate is checked against the requested name, whatever the connected address is.
        self.sock = trust.context().wrap_socket(self._connected, server_hostname=self.host)


def _left_seconds(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _hang_up(duplicate: socket.socket) -> None:
    """Shut down both directions of the connection, which wakes a blocked reader."""
    with contextlib.suppress(OSError):  # it has ended already
        duplicate.shutdown(socket.SHUT_RDWR)
