from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from backend.domain.errors import CaptionerError
from backend.system.ports import bind_error, check, free_port


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_taken_port_is_named_with_the_flag_that_changes_it(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    assert bind_error(port)
    with pytest.raises(
        CaptionerError, match=rf"^Port {port} is taken by another program: choose another with --port\.$"
    ):
        check(port, "127.0.0.1", "--port")


def test_a_port_that_is_being_given_up_is_waited_for(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    threading.Timer(0.3, taken.close).start()
    begun = time.monotonic()
    check(port, "127.0.0.1", "--port", wait_seconds=10)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_this_machines_is_not_called_taken(host: str) -> None:
    with pytest.raises(
        CaptionerError, match=rf"^Port \d+ of {host} cannot be used \(.+\): choose another with --port\.$"
    ):
        check(free_port(), host, "--port", wait_seconds=10)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen on every port")
def test_a_port_for_root_only_is_not_called_taken() -> None:
    with pytest.raises(CaptionerError, match="permission denied"):
        check(80, "127.0.0.1", "--port")


def test_an_address_of_ip_version_6_is_looked_at_as_one() -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        assert bind_error(server.getsockname()[1], "::1")
    assert bind_error(free_port(), "::1") is None
