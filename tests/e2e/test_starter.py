"""A folder of photos, as a new user brings it: its first task opens with a draft."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import studio
from tests.e2e.stack import Stack
from tests.pictures import Pictures

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("starter")]


def test_photos_open_with_a_draft_of_the_starter(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for row in pictures.rows[:12]:
        (photos / row.image.name).write_bytes(row.image.read_bytes())
    monkeypatch.setenv("CAPTIONER_TEST_STARTER", str(pictures.captioner))
    monkeypatch.setenv("CAPTIONER_BLIND_SHARE", "0")
    studio.prepare(tmp_path / "data")
    stack = Stack(tmp_path / "data", "--images", str(photos), "--device", "cpu")
    try:
        stack.start()
        first = min(task["id"] for task in stack.client.tasks(stack.project))
        stack.client.retrieve_predictions(stack.project, [first])
        [prediction] = stack.client.predictions(task_id=first)
        assert prediction["model_version"].startswith(f"{pictures.captioner.name}-")
        assert prediction["result"][0]["value"]["text"][0].endswith(".")
        assert stack.project_status()["champion"] == prediction["model_version"]
    finally:
        stack.stop()
