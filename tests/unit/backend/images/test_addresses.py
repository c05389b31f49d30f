from __future__ import annotations

import socket

import pytest

from backend.domain.errors import ImageError
from backend.images.addresses import AddressGuard, Origin, is_public, resolve_host
from tests.fakes import Host, host


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",  # cloud metadata
        "fec0::1",  # site-local, given up by the standard but not by every network
        "100.64.0.1",  # shared by a provider's customers
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2001:0:53aa:64c:0:0:80ff:fffe",  # Teredo of 127.0.0.1
        "168.63.129.16",  # Azure
        "::ffff:168.63.129.16",
        "64:ff9b::a83f:8110",
        "192.0.0.192",  # Oracle
        "100.100.100.200",  # Alibaba
        "fd00:ec2::254",  # Amazon
        "fd20:ce::254",  # Google
        "192.80.8.124",  # Equinix Metal
        "161.26.0.10",  # IBM
        "166.9.0.1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def connects(guard: AddressGuard, name: str, target: Host) -> bool:
    """Whether the guard opens a connection to `name`, which then ends at the target; else it says what to set."""
    try:
        connected = guard.connect(name, target.port, 5)
    except ImageError as error:
        if f"CAPTIONER_IMAGE_HOSTS names {name}:{target.port}" not in str(error):
            raise
        return False
    with connected:
        assert connected.getpeername() == ("127.0.0.1", target.port)
    return True


def test_loopback_is_refused_unless_named() -> None:
    with host() as target:
        assert not connects(AddressGuard(), "127.0.0.1", target)
        assert not connects(AddressGuard(), "localhost", target)
        assert connects(AddressGuard(hosts=["127.0.0.1"]), "127.0.0.1", target)
        assert connects(AddressGuard(hosts=[target.address]), "127.0.0.1", target)
        assert connects(AddressGuard(trusted=target.url), "127.0.0.1", target)


def test_naming_one_port_or_one_host_allows_no_other() -> None:
    with host() as target:
        assert not connects(AddressGuard(hosts=[f"127.0.0.1:{target.port + 1}"]), "127.0.0.1", target)
        assert not connects(AddressGuard(hosts=["localhost"]), "127.0.0.1", target)
        assert not connects(AddressGuard(trusted=f"http://127.0.0.1:{target.port + 1}"), "127.0.0.1", target)


def test_a_name_that_resolves_inside_is_refused_whatever_it_is_called() -> None:
    with host() as target:
        guard = AddressGuard(resolve=lambda name, port: ["127.0.0.1"])
        assert not connects(guard, "photos.example", target)


def test_only_the_public_ones_of_several_addresses_are_tried() -> None:
    with host() as target:
        guard = AddressGuard(resolve=lambda name, port: ["127.0.0.1", "10.0.0.1"])
        assert not connects(guard, "photos.example", target)


def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    """DNS rebinding: a second look-up would lead elsewhere, so there must be none."""
    with host() as target:
        looked_up: list[str] = []

        def resolve(name: str, port: int) -> list[str]:
            looked_up.append(name)
            return ["127.0.0.1"] if len(looked_up) == 1 else ["127.0.0.2"]

        assert connects(AddressGuard(hosts=["photos.example"], resolve=resolve), "photos.example", target)
        assert looked_up == ["photos.example"]


def test_a_dead_address_is_passed_over_for_a_live_one() -> None:
    with host() as target:
        guard = AddressGuard(hosts=["photos.example"], resolve=lambda name, port: ["127.0.0.9", "127.0.0.1"])
        assert connects(guard, "photos.example", target)


def test_an_unknown_host_and_a_closed_port_are_one_sentence() -> None:
    def unknown(name: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(ImageError, match=r"^The host nowhere\.example is not known: .*\.$"):
        AddressGuard(resolve=unknown).connect("nowhere.example", 80, 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ImageError, match=rf"^127\.0\.0\.1:{port} cannot be reached: .*\.$"):
            AddressGuard(hosts=["127.0.0.1"]).connect("127.0.0.1", port, 1)


def test_numbers_in_disguise_resolve_to_what_they_are() -> None:
    assert not any(is_public(address) for address in resolve_host("2130706433", 80) + resolve_host("0x7f.1", 80))


def test_origins() -> None:
    assert Origin.of("HTTP://Example.COM/a") == Origin("http", "example.com", 80)
    assert Origin.of("https://example.com") != Origin.of("http://example.com")
    assert str(Origin.of("https://[2001:db8::1]:8443/x")) == "https://[2001:db8::1]:8443"
    for wrong in ["ftp://example.com", "http://", "http://[", "http://a:99999", "file:///etc/passwd"]:
        with pytest.raises(ImageError, match="is not an"):
            Origin.of(wrong)
