"""Tasks, drafts, corrections and events as this project speaks of them. Pure: standard library only."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Task:
    """A Label Studio task: one image to caption. `image` is the raw reference in its data, None where it has none."""

    id: int
    project_id: int
    image: str | None
    created_at: datetime | None = field(default=None, compare=False)
    seen: str | None = field(default=None, compare=False)  # a fingerprint of its state, where Label Studio was read


@dataclass(frozen=True)
class Draft:
    """A caption shown to an annotator; `score` in (0, 1], higher is surer."""

    project_id: int
    task_id: int
    version: str
    image: str
    text: str
    score: float
    image_sha256: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class DraftFailure:
    """Why a task got no draft."""

    project_id: int
    task_id: int
    reason: str


@dataclass(frozen=True)
class Correction:
    """The human-approved captions of one annotation, as its newest known revision has them.

    `texts` are normalised captions (empty for skipped and empty submits); several are several references of one image.
    `origin` is Label Studio's: "prediction" (accepted unchanged), "prediction-changed", "manual", or None.
    """

    annotation_id: int
    project_id: int
    task_id: int
    texts: tuple[str, ...]
    updated_at: datetime
    was_cancelled: bool = False
    ground_truth: bool = False
    origin: str | None = None
    annotator: int | None = None
    lead_time_seconds: float | None = None
    parent_prediction: int | None = None
    typed: tuple[str, ...] = ()  # the same captions exactly as typed
    created_at: datetime | None = None  # a Label Studio begun anew gives ids out again, but not its time

    @property
    def usable(self) -> bool:
        """Whether it may be trained on: not skipped, and it says something."""
        return not self.was_cancelled and bool(self.texts)


@dataclass(frozen=True)
class Event:
    """One thing Label Studio told us, or that was read from it: what it creates or changes, and what it deletes.

    `body` is the payload as received, without secrets; it is kept for the record. Of what was read, `observed_at` is
    when the reading began, and `whole_tasks` are those whose every annotation stands in `corrections`.
    """

    action: str
    project_id: int
    corrections: tuple[Correction, ...] = ()
    tasks: tuple[Task, ...] = ()
    deleted_annotations: tuple[int, ...] = ()
    deleted_tasks: tuple[int, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)
    observed_at: datetime | None = None
    whole_tasks: tuple[int, ...] = ()

    @property
    def asks_for_training(self) -> bool:
        return self.action == "START_TRAINING"


def normalise(text: str) -> str:
    """The caption as it is trained on: NFC, control characters and runs of white space to one blank, trimmed.

    Halves of surrogate pairs and U+FFFD, which stands for what could not be read, are dropped. A text without a letter
    or digit ("...", an emoji, a zero-width blank) says nothing that could be learnt or judged by: it becomes empty.
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(_SHOWN.get(unicodedata.category(c), c) for c in composed if c != "\ufffd")
    return " ".join(visible.split()) if any(c.isalnum() for c in visible) else ""


_SHOWN = {"Cc": " ", "Zl": " ", "Zp": " ", "Cs": ""}


def retrain_due(new_corrections: int, every: int, asked: bool) -> bool:
    """A retrain is due after `every` new usable corrections, or on request when there is at least one."""
    return new_corrections >= (1 if asked else every)
