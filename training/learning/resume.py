"""The state of an unfinished training on disk, so that a killed one is resumed."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.runtime.files import atomic_file

log = logging.getLogger(__name__)

Weights = dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """After `epoch` epochs of the stage numbered `stage`: all that the next epoch depends on.

    The random number generators are no part of it, for every epoch has a seed of its own.
    """

    stage: int = 0
    epoch: int = 0
    captioner: Weights = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)  # optimiser, schedule, average
    best: Weights | None = None
    best_score: float | None = None  # higher is better
    history: list[dict[str, Any]] = field(default_factory=list)

    def consider(self, scores: Mapping[str, float], name: str, weights: Callable[[], Weights]) -> None:
        """Keep the captioner's weights as the best if the score called `name` is; a loss is better when lower, and
        what is no finite number is no score."""
        if not math.isfinite(scores.get(name, math.nan)):
            return
        score = -scores[name] if name.endswith("loss") else scores[name]
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best = score, weights()


class Resume:
    """The file beside the checkpoint `out` with the state of its training, until that is finished.

    `identity` is all that decides the result; the file of another training is ignored. Nothing is saved within
    `every_seconds` of the last time, so that a short training writes nothing.
    """

    def __init__(self, out: Path, identity: Any, *, writes: bool, every_seconds: float = 30.0) -> None:
        self._file = out.with_name(f".{out.name}.unfinished") / "state.pt"
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._writes, self._every_seconds = writes, every_seconds
        self._saved = time.monotonic()

    def load(self) -> TrainingState:
        """The saved state; that of a beginning where there is no file, or none of this training."""
        if not self._file.exists():
            return TrainingState()
        try:
            found = torch.load(self._file, map_location="cpu", weights_only=True)
            if found.pop("identity") != self._identity:
                return TrainingState()
            state = TrainingState(**found)
        except Exception as error:  # whatever the damaged bytes happen to cause
            log.warning("%s cannot be read (%s); the training starts again.", self._file, error)
            return TrainingState()
        log.warning("Resuming after %d epochs of an earlier run.", len(state.history))
        return state

    def save(self, state: TrainingState) -> None:
        """Save the state, unless it was saved a moment ago."""
        if not self._writes or time.monotonic() - self._saved < self._every_seconds:
            return
        try:
            with atomic_file(self._file) as unfinished:
                torch.save({"identity": self._identity, **vars(state)}, unfinished)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
            log.warning("%s cannot be written (%s); the training goes on.", self._file, str(error).split("\n")[0])
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Remove the file."""
        if self._writes:
            shutil.rmtree(self._file.parent, ignore_errors=True)
