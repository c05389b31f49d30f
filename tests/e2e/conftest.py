from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack
from tests.system import need

RETRAIN_EVERY = 8


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole loop, started once: Label Studio is installed if it is not yet, the starter captioner is trained."""
    flags = ["--scenes", "24", "--retrain-every", str(RETRAIN_EVERY), "--device", "cpu"]
    made = Stack(tmp_path_factory.mktemp("up"), *flags)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def page(stack: Stack) -> Iterator[object]:
    """A page of a real Chromium, logged in to Label Studio."""
    from playwright.sync_api import sync_playwright

    chromium = need("chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{stack.state['label_studio_url']}/user/login/")
        page.fill("input[name=email]", stack.state["email"])
        page.fill("input[name=password]", stack.state["password"])
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)
        yield page
        browser.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screenshots")
