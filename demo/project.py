"""A project of a running `captioner up`, for the simulated annotator."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.domain.errors import CaptionerError
from backend.up.steps import say
from demo.annotator import Submission, caption_task
from demo.browser import Browser
from training.runtime.console import tracked

RETRAIN_SECONDS = 600.0
POLL_SECONDS = 2.0


class Project:
    """The project that `up` created; `state` is what `up` reported when it was ready."""

    def __init__(self, state: Mapping[str, Any], data_dir: Path) -> None:
        self.id = int(state["project"])
        self.client = Browser(state["label_studio_url"], state["token"])
        self._data_dir = data_dir

    def caption(
        self, images: Sequence[Path], correct: Callable[[Path, str], str], title: str, task_ids: Sequence[int] = ()
    ) -> list[Submission]:
        """Request a draft of each image and submit `correct(image, draft)`; imports the images without `task_ids`."""
        tasks = list(task_ids) or self.client.upload_images(self.id, images)
        self.client.retrieve_predictions(self.id, tasks)
        return [
            caption_task(self.client, self.id, task_id, lambda draft, image=image: correct(image, draft))  # type: ignore[misc]
            for task_id, image in tracked(list(zip(tasks, images, strict=True)), title)
        ]

    def status(self) -> dict[str, Any]:
        """The output of `captioner status --json`."""
        argv = [sys.executable, "-P", "-m", "backend.cli", "status", "--json", "--data-dir", str(self._data_dir)]
        return dict(json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout))

    def versions(self) -> list[dict[str, Any]]:
        """Model versions of this project or of no project, oldest first."""
        return [version for version in self.status()["versions"] if version["project"] in {None, self.id}]

    def retrains(self) -> list[dict[str, Any]]:
        """The project's retrains, newest first."""
        return list(self._own(self.status()).get("retrains", []))

    def drafts_by_version(self) -> list[dict[str, Any]]:
        """How the drafts of each version were changed, as `captioner status` tells it."""
        return list(self._own(self.status())["drafts_by_version"])

    def retrain(self, number: int) -> None:
        """Press Start Training, and wait until `number` retrains have ended and the champion is served.

        Raises CaptionerError after minutes.
        """
        begun = time.monotonic()
        [ml_backend] = self.client.ml_backends(self.id)
        self.client.start_training(ml_backend["id"])
        while not self._settled(number):
            if time.monotonic() - begun > RETRAIN_SECONDS:
                raise CaptionerError(f"Retrain {number} has not ended within {RETRAIN_SECONDS:.0f} s.")
            time.sleep(POLL_SECONDS)
        say(f"Retrain {number} ended after {time.monotonic() - begun:.0f} s: {self.retrains()[0]['outcome']}")

    def _settled(self, number: int) -> bool:
        project = self._own(self.status())
        ended = [retrain for retrain in project["retrains"] if retrain["state"] not in {"queued", "running"}]
        return len(ended) >= number and project["champion"] == project["serving"]

    def _own(self, status: Mapping[str, Any]) -> dict[str, Any]:
        return next(project for project in status["projects"] if project["id"] == self.id)
