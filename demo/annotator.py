"""A simulated annotator that uses Label Studio's API as the browser does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import labeling_config
from backend.label_studio import wire
from demo.browser import Browser
from training.metrics import word_edits

TAGS = labeling_config.parse(labeling_config.shipped("caption"))  # the configuration of the project that `up` creates


@dataclass(frozen=True)
class Submission:
    """The draft that a task showed, the version that made it, and the submitted caption; a blind task has no draft."""

    task_id: int
    version: str
    draft: str
    caption: str


def caption_task(client: Browser, project_id: int, task_id: int, correct: Callable[[str], str]) -> Submission:
    """Open the task, read its draft and submit `correct(draft)`."""
    task = client.open_task(task_id, project_id)
    prediction = max(task["predictions"], key=lambda each: each["id"], default=None)
    draft = _text(prediction)
    caption = correct(draft)
    origin = "manual" if not draft else "prediction" if draft == caption else "prediction-changed"
    result = wire.result(TAGS, caption, origin=origin) | {"id": f"demo{task_id:06d}"}
    parent = {"parent_prediction": prediction["id"]} if prediction and draft else {}
    client.create_annotation(task_id, project_id, [result], lead_time=1.0 + 0.5 * word_edits(draft, caption), **parent)
    return Submission(task_id, prediction["model_version"] if prediction else "none", draft, caption)


def _text(prediction: dict[str, Any] | None) -> str:
    if not prediction or not prediction["result"]:
        return ""
    return str(prediction["result"][0]["value"]["text"][0])
