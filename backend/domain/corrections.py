"""Tasks, drafts, corrections and events. Standard library only."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
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
    seen: str | None = field(default=None, compare=False)  # fingerprint of its state when read from Label Studio


@dataclass(frozen=True)
class Draft:
    """A caption shown to an annotator; `score` in (0, 1] is the chance that it is accepted, as far as that is known.

    `from_task` is the task whose correction it copies; None where it is the version's own. `withheld` is the caption
    that the version made and that is not shown, so that what people write without it can judge it. `signals` are those
    of `training.decoding.signals` that are known, by name.
    """

    project_id: int
    task_id: int
    version: str
    image: str
    text: str
    score: float
    image_sha256: str | None = field(default=None, compare=False)
    from_task: int | None = None
    withheld: str | None = field(default=None, compare=False)
    signals: Mapping[str, float] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class DraftFailure:
    """Why a task got no draft."""

    project_id: int
    task_id: int
    reason: str


@dataclass(frozen=True)
class Correction:
    """The human-approved captions of one annotation, in its newest known revision.

    `texts` are normalised captions (none for skipped and empty submits), each a reference of the image.
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
    created_at: datetime | None = None  # tells it from an annotation of a fresh Label Studio with its id
    reasons: tuple[str, ...] = ()  # why its draft was wrong, where the labelling config asks
    hints: tuple[str, ...] = ()  # what was typed to have it completed

    @property
    def usable(self) -> bool:
        """Whether it may be trained on: it was not skipped and has a caption."""
        return not self.was_cancelled and bool(self.texts)


@dataclass(frozen=True)
class Event:
    """One event sent by Label Studio or read from it: what it creates or changes, and what it deletes.

    `body` is the payload as received, without secrets, and is kept as a record; of an event that is about no task or
    annotation it is only the action and the project. `shown` is by annotation the version whose draft it was made from,
    where Label Studio says so. For an event that was read, `observed_at` is when the reading began, and `whole_tasks`
    are tasks whose every annotation is in `corrections`.
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
    shown: Mapping[int, str] = field(default_factory=dict)

    @property
    def asks_for_training(self) -> bool:
        return self.action == "START_TRAINING"


def normalise(text: str) -> str:
    """The caption for training: NFC, trimmed, control characters and runs of white space as one blank.

    Halves of surrogate pairs and U+FFFD (an unreadable character) are dropped. A text without a letter or digit ("...",
    an emoji, a zero-width blank) becomes empty: it has nothing to learn or to score.
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(_SHOWN.get(unicodedata.category(c), c) for c in composed if c != "\ufffd")
    return " ".join(visible.split()) if any(c.isalnum() for c in visible) else ""


_SHOWN = {"Cc": " ", "Zl": " ", "Zp": " ", "Cs": ""}


LEAST_NEW = 25
"""The first retrain of a project begins by itself after so many corrections, a later one after no fewer new ones."""
QUICK_SECONDS = 120.0
"""A project whose last retrain took less retrains whenever its corrections have grown by a quarter."""


def corrections_until_retrain(known: int, new: int, took_seconds: float, every: int) -> int:
    """How many more usable corrections make the next retrain due.

    `known` ones were there at the last retrain, which took `took_seconds`, and `new` ones have come since; before the
    first retrain `known` and `took_seconds` are 0. `every` is the most that it takes.
    """
    needed = every
    if took_seconds < QUICK_SECONDS:
        needed = min(max(LEAST_NEW, math.ceil(known / 4)), every)
    return max(needed - new, 0)
