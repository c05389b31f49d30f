"""Draws docs/config-*.jpg: the other labelling configs in a real Label Studio, with the photo of docs/draft.png."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import labeling_config
from backend.label_studio import wire
from backend.up import label_studio_server
from tests.browser import chromium
from tests.e2e import studio
from tests.e2e.studio import Studio

DOCS = Path(__file__).parents[1]
PHOTO = (255, 220, 904, 808)  # left, upper, right and lower edge within the screenshot; by NASA, public domain
CAPTION, OTHER = "A woman in a red shirt.", "An astronaut in an orange suit smiles in front of a flag."
FORM = {"x": 240, "y": 90, "width": 720, "height": 500}
"""The part of the window that is the form."""


def draw(label_studio: Studio, photo: Path) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        account = label_studio_server.login(label_studio.data_dir)
        page.goto(f"{label_studio.url}/user/login/")
        page.fill("input[name=email]", account.email)
        page.fill("input[name=password]", account.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)
        for name in ("multi_caption", "review", "guided"):
            open_task(label_studio, photo, page, name)
            if name == "multi_caption":
                page.get_by_placeholder("Another way to say it").fill(OTHER)
                page.keyboard.press("Shift+Enter")
                page.locator("textarea", has_text=OTHER).wait_for()
            if name == "review":
                page.get_by_text("attribute").click()
            page.screenshot(path=str(photo.with_name("window.png")), clip=FORM)
            with Image.open(photo.with_name("window.png")) as window:
                window.convert("RGB").save(DOCS / f"config-{name.replace('_', '-')}.jpg", quality=82)


def open_task(label_studio: Studio, photo: Path, page: Any, name: str) -> None:
    """A task with a draft."""
    config = labeling_config.shipped(name)
    project = int(label_studio.client.create_project(name, config)["id"])
    [task] = label_studio.client.upload_images(project, [photo])
    draft = wire.result(labeling_config.parse(config), CAPTION)
    label_studio.client.import_predictions(project, [{"task": task, "model_version": "starter", "result": [draft]}])
    page.goto(f"{label_studio.url}/projects/{project}/data?task={task}")
    page.locator("textarea", has_text=CAPTION).first.wait_for()
    page.locator("img[alt=image]").wait_for()
    page.wait_for_load_state("networkidle")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Image.open(DOCS / "draft.png") as screenshot:
        studio.prepare(Path(folder) / "data")
        screenshot.convert("RGB").crop(PHOTO).save(Path(folder) / "photo.png")
        with studio.running(Path(folder) / "data") as running:
            draw(running, Path(folder) / "photo.png")
