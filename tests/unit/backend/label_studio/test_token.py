from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from backend.domain.errors import LabelStudioError
from backend.label_studio.token import Token, is_personal

LEGACY, PERSONAL = "0" * 40, "eyJhbGciOiJIUzI1NiJ9.e30.signature"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("key", "personal"),
    [
        (PERSONAL, True),
        (LEGACY, False),
        ("a.b.c", False),
        ("eyJhbGciOiJIUzI1NiJ9.e30", False),
        ("", False),
        ("ü.ü.ü", False),
    ],
)
def test_the_kind_shows_in_the_shape(key: str, personal: bool) -> None:
    assert is_personal(key) is personal


def test_a_legacy_token_is_the_header_and_asks_nobody(label_studio: Any) -> None:
    assert Token(label_studio.url, f" {LEGACY}\n").header() == {"Authorization": f"Token {LEGACY}"}
    assert label_studio.calls == []


def test_a_personal_token_is_exchanged_and_renewed_before_its_300_seconds_end(label_studio: Any) -> None:
    clock = Clock()
    token = Token(label_studio.url, PERSONAL, clock)
    assert token.header() == {"Authorization": "Bearer access-1"}
    clock.now += 239
    assert token.header() == {"Authorization": "Bearer access-1"}
    clock.now += 2
    assert token.header() == {"Authorization": "Bearer access-2"}
    assert label_studio.made("POST") == [("/api/token/refresh/", {"refresh": PERSONAL})] * 2
    assert {call.authorization for call in label_studio.calls} == {None}


def test_a_forgotten_access_token_is_exchanged_anew(label_studio: Any) -> None:
    token = Token(label_studio.url, PERSONAL)
    token.header()
    token.forget()
    assert token.header() == {"Authorization": "Bearer access-2"}


def test_threads_share_one_exchange(label_studio: Any) -> None:
    token = Token(label_studio.url, PERSONAL)
    with ThreadPoolExecutor(8) as threads:
        headers = list(threads.map(lambda _: token.header()["Authorization"], range(32)))
    assert set(headers) == {"Bearer access-1"}
    assert len(label_studio.calls) == 1


def test_a_revoked_personal_token_says_what_to_do(label_studio: Any) -> None:
    with pytest.raises(LabelStudioError, match=r"revoked.*create a new one.*LABEL_STUDIO_API_KEY"):
        Token(label_studio.url, PERSONAL + "x").header()


@pytest.mark.parametrize("answer", [(200, b"<html>"), (200, []), (200, {"access": ""}), (302, {}), (404, {})])
def test_what_is_no_label_studio_is_named(label_studio: Any, answer: tuple[int, Any]) -> None:
    label_studio.answers["POST", "/api/token/refresh/"] = answer
    with pytest.raises(LabelStudioError, match=f"{label_studio.url}/api/token/refresh/ answered {answer[0]}"):
        Token(label_studio.url, PERSONAL).header()
    assert len(label_studio.calls) == 1  # no redirect was followed


def test_a_label_studio_that_is_not_there(unused_tcp_url: str) -> None:
    with pytest.raises(LabelStudioError, match=f"{unused_tcp_url} cannot be reached"):
        Token(unused_tcp_url, PERSONAL).header()
