"""System packages some tests want: skip with the reason where one is missing, fail where it is required."""

from __future__ import annotations

import os

import pytest

from benchmarks.services import find

_PLACES = {"chromium": ("chromium", "chromium-browser", "google-chrome"), "postgresql": ("initdb",)}


def need(package: str) -> str:
    """Path of the package's program. Skips the test without it, or fails it when CAPTIONER_TESTS_REQUIRE names it."""
    if found := find(*_PLACES[package]):
        return found
    reason = f"the system package {package} is not installed"
    if package in os.environ.get("CAPTIONER_TESTS_REQUIRE", "").split():
        pytest.fail(f"{reason}, but CAPTIONER_TESTS_REQUIRE asks for it")
    pytest.skip(reason)
