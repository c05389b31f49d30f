"""One rule for the API and for images, over https on loopback with certificates made for the tests."""

from __future__ import annotations

import base64
import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.domain.errors import CaptionerError, LabelStudioUnreachableError, UnreachableImageError
from backend.images.addresses import AddressGuard
from backend.images.download import Downloader
from backend.label_studio.api import Api
from backend.label_studio.token import Token
from backend.system import trust
from tests.fakes import Answer, Host, host

ASSETS = Path(__file__).parents[3] / "assets"
AUTHORITY = ASSETS / "loopback-ca.pem"
PERSONAL = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=") + ".e30.c2ln"


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    with host(ASSETS / "loopback.pem") as server:
        server.answers |= {
            "/api/projects/3": Answer(200, b'{"id": 3}'),
            "/api/token/refresh/": Answer(200, b'{"access": "short-lived"}'),
            "/a.png": Answer(200, b"bytes"),
        }
        yield server


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in trust.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def of_the_api(url: str) -> Any:
    return Api(url, "0" * 40).get("/api/projects/3")


def of_the_token(url: str) -> Any:
    return Token(url, PERSONAL).header()


def of_an_image(url: str) -> Any:
    return Downloader(AddressGuard(trusted=url)).get(f"{url}/a.png")


Call = Callable[[str], Any]
every_call = pytest.mark.parametrize("call", [of_the_api, of_the_token, of_an_image])


@every_call
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_each_variable_is_enough_for_everything(
    running: Host, call: Call, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(AUTHORITY))
    assert call(running.url)


@every_call
def test_one_variable_does_not_hide_the_other_nor_the_systems_store(
    running: Host, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ASSETS / "photos.example.pem", tmp_path / "other.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    default = ssl.get_default_verify_paths()
    with monkeypatch.context() as system:
        system.setattr(ssl, "get_default_verify_paths", lambda: default._replace(openssl_cafile=str(AUTHORITY)))
        assert call(running.url)


@every_call
def test_an_unknown_authority_is_told_with_what_to_set(running: Host, call: Call) -> None:
    sentence = (
        r"[;:] the server's certificate is not trusted \(unable to get local issuer certificate\): name a PEM file "
        r"with the certificate of its authority in REQUESTS_CA_BUNDLE or SSL_CERT_FILE\.$"
    )
    with pytest.raises(CaptionerError, match=sentence):
        call(running.url)


@every_call
def test_a_certificate_of_another_name_is_told_as_such(
    running: Host, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    with pytest.raises(CaptionerError, match=r"the server's certificate is not valid \(Hostname mismatch, .*\)\.$"):
        call(f"https://localhost:{running.port}")


@every_call
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_variable_that_names_no_certificates_is_told_where_it_matters(
    running: Host, call: Call, content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with pytest.raises(
        CaptionerError, match=f"; REQUESTS_CA_BUNDLE names {path}, where no certificate can be read\\.$"
    ):
        call(running.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    assert call(running.url)


@every_call
def test_https_to_a_server_of_http_is_told_as_such(call: Call) -> None:
    with host() as plain, pytest.raises(CaptionerError, match="the server does not answer as https should"):
        call(f"https://{plain.address}")


def test_what_an_operator_mends_may_succeed_later(running: Host) -> None:
    with pytest.raises(LabelStudioUnreachableError):
        of_the_token(running.url)
    with pytest.raises(UnreachableImageError):
        of_an_image(running.url)
