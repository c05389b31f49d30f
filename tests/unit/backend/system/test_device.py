from __future__ import annotations

import pytest

from backend.domain.errors import SettingsError
from backend.system import device


@pytest.mark.parametrize(
    ("name", "built_in", "works", "found"),
    [
        ("cpu", True, True, False),
        ("cuda:1", True, True, True),
        ("cuda:0,cuda:1", True, True, True),
        ("auto", True, True, True),
        ("auto", True, False, False),
        ("auto", False, True, False),
    ],
)
def test_a_gpu_is_one_that_can_be_used(
    monkeypatch: pytest.MonkeyPatch, name: str, built_in: bool, works: bool, found: bool
) -> None:
    def check(device: str) -> None:
        if not works:
            raise SettingsError("There is no driver.")

    monkeypatch.setattr(device, "has_gpu", lambda: built_in)
    monkeypatch.setattr(device, "check", check)
    assert device.is_gpu(name) is found
