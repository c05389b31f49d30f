"""The status page in a real browser: live while a retrain runs, on a phone, by keyboard, and for everybody's eyes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backend.store.retrains import DONE, Retrain
from backend.web.app import create_app
from backend.web.services import Services
from tests import factories
from tests.browser import chromium, serving
from tests.lively import finish, lively

pytestmark = pytest.mark.xdist_group("status page")  # one server and one browser for all

TRAINING = {"phase": "train", "epoch": 3, "epochs": 10, "step": 5, "steps": 10, "loss": 2.3, "phase_seconds": 25.0}
PATHS = {
    "overview": "/",
    "project": "/projects/1",
    "version": "/projects/1/versions/p1-v5",
    "error": "/projects/9",
}


@dataclass
class Site:
    url: str
    services: Services
    retrain: Retrain
    browser: Any

    def renew(self, **fields: Any) -> None:
        """The retrain is heard of; else it counts as lost after a while."""
        assert self.services.store.renew_retrain(self.retrain, {**TRAINING, **fields})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with chromium() as browser:
        services = factories.backend(tmp_path_factory.mktemp("data"))
        retrain = lively(services)
        services.store.save_project(2, "<View/>")
        with serving(create_app(services)) as url:
            yield Site(url, services, retrain, browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PATHS)
def test_a_page_fits_a_phone_and_serves_everybody(site: Site, tmp_path: Path, scheme: str, name: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    site.renew()
    page = site.browser.new_page(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(site.url + PATHS[name])
    page.screenshot(path=str(tmp_path / f"{name}-{scheme}.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}] == []
    assert [text for text in said if "404" not in text] == []
    page.close()


def test_it_is_used_with_the_keyboard(site: Site) -> None:
    page = site.browser.new_page()
    page.goto(f"{site.url}/projects/1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, "it shows when it has the focus"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.close()


def test_without_a_script_it_is_whole_and_loads_again_by_itself_while_a_retrain_runs(site: Site) -> None:
    site.renew()
    context = site.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.url}/projects/1")
    assert "epoch 3 of 10" in page.inner_text("main")
    assert page.locator('noscript meta[http-equiv="refresh"], head meta[http-equiv="refresh"]').count() == 1
    context.close()


def test_it_asks_no_more_often_the_more_often_it_is_shown_again(site: Site) -> None:
    site.renew()
    page = site.browser.new_page()
    page.clock.install()
    page.goto(f"{site.url}/projects/1")
    asked: list[str] = []
    answered: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfinished", lambda request: answered.append(request.url))
    page.evaluate("[1, 2, 3].forEach(() => document.dispatchEvent(new Event('visibilitychange')))")
    for _ in range(4):
        while len(answered) < len(asked):
            page.wait_for_event("requestfinished")
        page.clock.run_for(2000)
    assert 3 <= sum(each.endswith("/now") for each in asked) <= 3 + 4
    page.close()


def test_it_follows_a_retrain_and_shows_the_rest_anew_when_that_ends(site: Site) -> None:
    site.renew()
    page = site.browser.new_page()
    page.clock.install()
    page.goto(f"{site.url}/projects/1")
    page.evaluate("window.same = true")
    assert "training, epoch 3 of 10, step 5 of 10" in page.inner_text("#part-retrain")
    site.renew(epoch=7)
    page.clock.run_for(2000)
    page.wait_for_selector("#part-retrain:has-text('epoch 7 of 10')")
    assert page.evaluate("window.same"), "the page was not loaded again"
    page.route("**/now", lambda route: route.abort())
    page.clock.run_for(2000)
    page.wait_for_selector("#stale:visible")
    page.unroute("**/now")
    finish(site.services, site.retrain, DONE, "p1-v6 is held.")
    page.clock.run_for(2000)
    page.wait_for_selector("#part-retrain:has-text('None is queued or running.')")
    assert page.evaluate("window.same") is None, "charts and examples are new too"
    page.close()
