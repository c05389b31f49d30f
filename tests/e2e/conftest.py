from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.services import S3, PostgreSQL, Redis
from tests.browser import chromium
from tests.e2e import studio
from tests.e2e.hosts import Hosts
from tests.e2e.stack import Captioning, Stack
from tests.e2e.studio import Studio
from tests.system import need

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


@pytest.fixture(params=["SQLite and the embedded Redis", "PostgreSQL, Redis and S3"])
def captioning(
    request: pytest.FixtureRequest, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Captioning]:
    """The project of `up`; and one of the same images in its Label Studio, on services that several machines share."""
    if request.param.startswith("SQLite"):
        yield stack
        return
    need("postgresql")
    with Redis() as redis, PostgreSQL() as postgresql, S3() as s3:
        for name, value in s3.environ.items():
            monkeypatch.setenv(name, value)
        shared = {
            "REDIS_URL": redis.url,
            "DATABASE_URL": postgresql.url(postgresql.create("e2e")),
            "CAPTIONER_IMAGES_URL": s3.url,
        }
        given = {"CAPTIONER_RETRAIN_EVERY": str(RETRAIN_EVERY), "CAPTIONER_DEVICE": "cpu"}
        with Hosts(tmp_path / "host", stack, **shared, **given) as hosts:
            yield hosts


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
