from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from backend.domain.errors import CaptionerError, ForbiddenError
from backend.web.pages import forms


def test_the_page_that_asked_is_answered(tmp_path: Path) -> None:
    forms.check(tmp_path, forms.token(tmp_path, "promote", "1", "p1-v2", "p1-v1"), "promote", "1", "p1-v2", "p1-v1")
    assert stat.S_IMODE((tmp_path / "run" / "pages.key").stat().st_mode) == 0o600


def test_a_token_is_good_for_what_its_page_asked_and_in_its_installation_alone(tmp_path: Path) -> None:
    token = forms.token(tmp_path, "promote", "1", "p1-v2")
    until, _, signature = token.partition(".")
    others = ["", ".", "x", "é.é", until, f"{until}.", f".{signature}", f"{int(until) + 1}.{signature}", f"{token}0"]
    others += [forms.token(tmp_path / "other", "promote", "1", "p1-v2"), forms.token(tmp_path, "promote", "1", "p1-v3")]
    others += [forms.token(tmp_path, "promote", "1p1-v2"), forms.token(tmp_path, "promote", "1p", "1-v2")]
    for other in others:
        with pytest.raises(ForbiddenError, match=r"^This form does not belong to the page that it names"):
            forms.check(tmp_path, other, "promote", "1", "p1-v2")


def test_a_token_ends_after_an_hour(tmp_path: Path) -> None:
    forms.check(tmp_path, forms.token(tmp_path, "rollback", now=time.time() - forms.SECONDS + 60), "rollback")
    with pytest.raises(ForbiddenError, match=r"^This form was opened more than an hour ago, so nothing was changed"):
        forms.check(tmp_path, forms.token(tmp_path, "rollback", now=time.time() - forms.SECONDS - 1), "rollback")


def test_processes_share_the_key_and_an_empty_one_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "run" / "pages.key"
    file.parent.mkdir()
    file.touch()  # left by a full disk
    token = forms.token(tmp_path, "rollback")
    assert file.stat().st_size == forms.BYTES
    forms.check(tmp_path, token, "rollback")


def test_a_key_that_cannot_be_kept_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(CaptionerError, match=r"^The key of the status page's forms, .*/pages\.key, cannot be used: "):
        forms.token(tmp_path, "rollback")
