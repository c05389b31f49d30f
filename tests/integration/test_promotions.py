"""Promotion and rollback on the status page in a real browser: by keyboard, on a phone, and not from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from backend.retraining.examples import FOLDER, LIST, Example, Examples
from backend.web.app import create_app
from backend.web.services import Services
from tests import factories
from tests.browser import chromium, serving
from tests.factories import checkpoint, picture
from tests.lively import lively

pytestmark = pytest.mark.xdist_group("status page")

PASSWORD = {"BASIC_AUTH_USER": "label", "BASIC_AUTH_PASS": "studio:x"}
PATHS = {"version": "versions/p1-v5", "promotion": "promote/p1-v3"}


@dataclass
class Site:
    url: str
    services: Services
    browser: Any

    def page(self, **options: Any) -> Any:
        """A page that gives the password when it is asked."""
        login = {"username": "label", "password": "studio:x"}
        return self.browser.new_context(http_credentials=login, **options).new_page()

    @property
    def champion(self) -> str | None:
        return self.services.registry.champions().get(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with chromium() as browser:
        services = factories.backend(tmp_path_factory.mktemp("data"), **PASSWORD)
        lively(services)
        for version in services.registry.versions(1):
            checkpoint(version.checkpoint)
        folder = services.registry.get("p1-v5").checkpoint / FOLDER
        folder.mkdir()
        (folder / "1.jpg").write_bytes(picture(kind="JPEG", size=(900, 500)))
        shown = Examples((Example("photo.jpg", "a red dot", ("a dot",), "1.jpg"),))
        (folder / LIST).write_text(json.dumps(asdict(shown)))
        with serving(create_app(services)) as url:
            yield Site(url, services, browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PATHS)
def test_a_page_fits_a_phone_and_serves_everybody(site: Site, tmp_path: Path, scheme: str, name: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = site.page(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{site.url}/projects/1/{PATHS[name]}")
    page.screenshot(path=str(tmp_path / f"{name}-{scheme}.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}] == []
    assert said == []
    page.context.close()


def test_a_version_is_taken_back_and_promoted_again_with_the_keyboard_alone(site: Site) -> None:
    page = site.page(java_script_enabled=False)
    page.goto(f"{site.url}/projects/1")
    press(page, "Roll back to p1-v2")
    assert "p1-v5 serves project 1 now." in page.inner_text("main")
    assert "p1-v2 will serve it again" in page.inner_text("main")
    assert site.champion == "p1-v5"
    reach(page, "input[name=reason]")
    page.keyboard.type("worse at night")
    press(page, "Roll back to p1-v2")
    assert "p1-v2 serves project 1 again." in page.inner_text("#moved")
    assert site.champion == "p1-v2"
    assert site.services.registry.moves(1)[0].reason == "worse at night"
    press(page, "Promote p1-v5")
    press(page, "Promote p1-v5")
    assert "p1-v5 is now the champion of project 1." in page.inner_text("#moved")
    assert site.champion == "p1-v5"
    page.context.close()


def test_a_page_of_another_site_promotes_nothing(site: Site) -> None:
    """Its form has all that the real one has, and the browser gives the password for it."""
    page = site.page()
    page.goto(f"{site.url}/projects/1/rollback")
    names = ("before", "after", "token")
    form = {name: page.get_attribute(f"input[name={name}]", "value") for name in names}
    elsewhere = Flask("elsewhere")
    fields = "".join(f'<input name="{name}" value="{escape(value)}">' for name, value in form.items())

    @elsewhere.get("/")
    def lure() -> str:
        return f'<form method="post" action="{site.url}/projects/1/rollback">{fields}<button>Win</button></form>'

    before = site.champion
    with serving(elsewhere) as url:
        page.goto(url.replace("127.0.0.1", "localhost"))
        with page.expect_response("**/rollback") as answer:
            page.click("button")
        assert answer.value.status == 403
        assert "A page of another site may not send this request." in page.inner_text("main")
    assert site.champion == before
    page.goto(f"{site.url}/projects/1/rollback")
    page.click("button")
    assert site.champion != before, "its own page can"
    page.context.close()


def reach(page: Any, selector: str) -> None:
    """Press Tab until the first such element has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.locator(f"{selector}:focus").count():
            return
    raise AssertionError(f"Tab never reaches {selector}.")


def press(page: Any, label: str) -> None:
    """Go with Tab to the link or button that is called so, and press Enter."""
    reach(page, f":is(a, button):has-text('{label}')")
    page.keyboard.press("Enter")
    page.wait_for_load_state()
