from __future__ import annotations

import time

import pytest

from backend.domain.errors import ForbiddenError
from backend.web.pages import forms

KEY = forms.key("label", "studio")


def test_the_page_that_asked_is_answered() -> None:
    forms.check(KEY, forms.token(KEY, "promote", "1", "p1-v2", "p1-v1"), "promote", "1", "p1-v2", "p1-v1")


def test_a_token_is_good_for_what_its_page_asked_and_with_the_same_password_alone() -> None:
    token = forms.token(KEY, "promote", "1", "p1-v2")
    until, _, signature = token.partition(".")
    others = ["", ".", "x", "é.é", until, f"{until}.", f".{signature}", f"{int(until) + 1}.{signature}", f"{token}0"]
    others += [
        forms.token(forms.key("label", "other"), "promote", "1", "p1-v2"),
        forms.token(KEY, "promote", "1", "p1-v3"),
    ]
    others += [forms.token(KEY, "promote", "1p1-v2"), forms.token(KEY, "promote", "1p", "1-v2")]
    for other in others:
        with pytest.raises(ForbiddenError, match=r"^This form does not belong to the page that it names"):
            forms.check(KEY, other, "promote", "1", "p1-v2")


def test_a_token_ends_after_an_hour() -> None:
    forms.check(KEY, forms.token(KEY, "rollback", now=time.time() - forms.SECONDS + 60), "rollback")
    with pytest.raises(ForbiddenError, match=r"^This form was opened more than an hour ago, so nothing was changed"):
        forms.check(KEY, forms.token(KEY, "rollback", now=time.time() - forms.SECONDS - 1), "rollback")
