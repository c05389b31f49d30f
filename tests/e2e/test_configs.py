"""Each shipped labelling config in the real Label Studio, as an annotator meets it: a draft opens, is corrected and
submitted by keyboard, with photo and boxes in view together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from werkzeug.serving import make_server

import labeling_config
from backend.cli.main import main
from backend.settings import loopback_without_proxy
from backend.store.registry import DEFAULT, ModelVersion
from backend.store.store import StoredCorrection
from backend.system.ports import free_port
from backend.up import label_studio_server
from backend.web.app import create_app
from backend.web.services import Services, build
from tests.browser import chromium
from tests.e2e.stack import await_true
from tests.e2e.studio import Studio
from tests.factories import settings
from tests.pictures import Pictures

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("label-studio")]

WINDOWS = [(1440, 900), (1280, 720)]
PATIENCE = 60_000


@dataclass
class Annotator:
    """A person in front of Label Studio, whose projects this process drafts; photos and screenshots lie in `folder`."""

    studio: Studio
    services: Services
    page: Any
    folder: Path

    def open_project(self, name: str, pictures: Pictures) -> tuple[int, int]:
        """A connected project with that labelling config, and its task with a photo as high as from a phone."""
        project = int(self.studio.client.create_project(name, labeling_config.shipped(name))["id"])
        with Image.open(pictures.rows[0].image) as image:
            image.resize((675, 1200)).convert("RGB").save(self.folder / f"{name}.jpg")
        [task] = self.studio.client.upload_images(project, [self.folder / f"{name}.jpg"])
        done = CliRunner(env=self.services.settings.to_env()).invoke(main, ["connect", "--project", str(project)])
        assert done.exit_code == 0, done.output
        return project, task

    def open_task(self, project: int, task: int) -> str:
        """Open it; returns the draft, once it stands in its box."""
        self.studio.client.retrieve_predictions(project, [task])
        [prediction] = self.studio.client.predictions(task_id=task)
        draft = str(prediction["result"][0]["value"]["text"][0])
        self.page.goto(f"{self.studio.url}/projects/{project}/data?task={task}")
        self.page.locator("textarea", has_text=draft).first.wait_for(timeout=PATIENCE)
        self.page.locator("img[alt=image]").wait_for(timeout=PATIENCE)
        return draft

    def submit(self) -> None:
        """As the headings tell: while the cursor is in a box, Label Studio hears no Ctrl+Enter."""
        self.page.keyboard.press("Tab")
        self.page.keyboard.press("Control+Enter")

    def correction(self, project: int, task: int, revision: int = 1) -> StoredCorrection:
        """The task's correction, once it has so many revisions."""

        def saved() -> StoredCorrection | None:
            made = [each for each in self.services.store.revisions(project) if each.task_id == task]
            return made[-1] if len(made) >= revision else None

        found: StoredCorrection = await_true(saved, 30, "the correction")
        return found


@pytest.fixture(scope="module")
def annotator(
    label_studio: Studio, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory, screenshots: Path
) -> Iterator[Annotator]:
    loopback_without_proxy()
    folder = tmp_path_factory.mktemp("configs")
    environ = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": label_studio.token}
    configured = settings(folder / "data", CAPTIONER_PORT=str(free_port()), CAPTIONER_DEVICE="cpu", **environ)
    services = build(configured)
    services.registry.register(ModelVersion("tiny-v1", pictures.captioner))
    services.registry.promote(DEFAULT, "tiny-v1", reason="for a test", by="test")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", configured.port, create_app(services), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    with chromium() as browser:
        thread.start()
        services.start()
        try:
            page, account = browser.new_page(), label_studio_server.login(label_studio.data_dir)
            page.goto(f"{label_studio.url}/user/login/")
            page.fill("input[name=email]", account.email)
            page.fill("input[name=password]", account.password)
            page.click("button[type=submit]")
            page.wait_for_url(lambda url: "login" not in url)
            yield Annotator(label_studio, services, page, screenshots)
        finally:
            server.shutdown()
            thread.join()
            services.stop()


@pytest.mark.parametrize("name", labeling_config.NAMES)
def test_photo_and_boxes_are_in_view_together_and_what_is_submitted_comes_back(
    annotator: Annotator, pictures: Pictures, name: str
) -> None:
    page = annotator.page
    project, task = annotator.open_project(name, pictures)
    draft = annotator.open_task(project, task)
    for width, height in WINDOWS:
        page.set_viewport_size({"width": width, "height": height})
        try:
            wanted = f"all to be above the buttons of a window {width} wide"
            await_true(lambda: page.evaluate(ABOVE_THE_BUTTONS), 10, wanted)
        finally:
            page.screenshot(path=str(annotator.folder / f"{name}-{width}.png"))
    texts, *more = STEPS[name](annotator, draft)
    row = annotator.correction(project, task)
    origin = "manual" if name == "guided" else "prediction-changed"  # what was completed counts as typed
    assert (row.texts, row.draft_text, row.origin) == (texts, draft, origin)
    assert [row.reasons, row.hints] == more
    if name == "multi_caption":
        page.locator("textarea", has_text=texts[1]).fill("")  # to empty the box of one deletes it
        page.locator("textarea").last.click()
        annotator.submit()
        assert annotator.correction(project, task, revision=2).texts == (texts[0], texts[2])


ABOVE_THE_BUTTONS = """() => {
    const all = (tag, start = "") =>
        [...document.querySelectorAll(tag)].filter(each => each.textContent.startsWith(start));
    const [submit] = all("button", "Submit"), [photo] = all("img[alt=image]");
    const shown = [photo, ...all("textarea"), ...all("label", "wording")];
    const end = each => each.getBoundingClientRect().bottom;
    return submit && photo && shown.every(each => end(each) <= submit.getBoundingClientRect().top);
}"""
"""Whether the photo and all boxes are, and the last of the choices where there are any."""


Expected = tuple[tuple[str, ...], ...]
"""Captions, reasons and hints that were submitted."""


def correct(annotator: Annotator, draft: str) -> Expected:
    annotator.page.locator("textarea", has_text=draft).first.fill(f"{draft} كَلْبٌ می‌دود, כלב, 一只狗, ผู้หญิง, café.")
    annotator.submit()
    return (f"{draft} كَلْبٌ می‌دود, כלב, 一只狗, ผู้หญิง, café.",), (), ()


def add_others(annotator: Annotator, draft: str) -> Expected:
    page, others = annotator.page, ("Another caption.", "and one more")
    for text in others:
        page.get_by_placeholder("Another way to say it").click()
        page.keyboard.type(text)
        page.keyboard.press("Shift+Enter")
        page.locator("textarea", has_text=text).wait_for()
    annotator.submit()
    return (draft, *others), (), ()


def give_reasons(annotator: Annotator, draft: str) -> Expected:
    annotator.page.locator("textarea", has_text=draft).first.fill("Something else.")
    for key in ("Tab", "1", "3", "Control+Enter"):
        annotator.page.keyboard.press(key)
    return ("Something else.",), ("object", "count"), ()


def complete(annotator: Annotator, draft: str) -> Expected:
    page, hint = annotator.page, "Three... Eiffel Tower"
    page.get_by_text("Auto-Annotation", exact=True).click()
    page.get_by_placeholder("Two children... red bus, dog").fill(hint)
    page.keyboard.press("Enter")
    completed = page.locator("textarea", has_text="Eiffel Tower").first
    await_true(lambda: completed.input_value().startswith("Three "), 30, "the completed caption")
    completed.click()
    page.screenshot(path=str(annotator.folder / "completed.png"))
    text = completed.input_value()
    annotator.submit()
    return (text,), (), (hint,)


STEPS = {"caption": correct, "multi_caption": add_others, "review": give_reasons, "guided": complete}
