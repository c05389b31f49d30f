from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.e2e import studio
from tests.e2e.stack import Stack
from tests.e2e.studio import Studio

RETRAIN_EVERY = 8


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`captioner up`, started once over a prepared Label Studio; the starter captioner is trained."""
    data_dir = tmp_path_factory.mktemp("up")
    studio.prepare(data_dir)
    made = Stack(data_dir, "--scenes", "24", "--retrain-every", str(RETRAIN_EVERY), "--device", "cpu")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One Label Studio for all tests that leave it running; each has projects of its own."""
    data_dir = tmp_path_factory.mktemp("label-studio")
    studio.prepare(data_dir)
    with studio.running(data_dir) as made:
        yield made


@pytest.fixture
def page(stack: Stack) -> Iterator[object]:
    """A page of a real Chromium, logged in to Label Studio."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{stack.state['label_studio_url']}/user/login/")
        page.fill("input[name=email]", stack.state["email"])
        page.fill("input[name=password]", stack.state["password"])
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)
        yield page


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screenshots")
