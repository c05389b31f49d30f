"""Where an unfinished training stands, so that a killed one goes on instead of beginning anew."""

from __future__ import annotations

import hashlib
import json
import logging
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

    Chance is not part of it: every epoch has a seed of its own.
    """

    stage: int = 0
    epoch: int = 0
    captioner: Weights = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)  # optimiser, schedule, average
    best: Weights | None = None
    best_score: float | None = None  # higher is better
    worse: int = 0  # epochs since the best
    history: list[dict[str, Any]] = field(default_factory=list)

    def consider(self, scores: Mapping[str, float], name: str, weights: Callable[[], Weights]) -> None:
        """Take the captioner's weights for the best if the score called `name` is; a loss is better when lower."""
        if name not in scores:
            return
        score = -scores[name] if name.endswith("loss") else scores[name]
        self.worse += 1
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best, self.worse = score, weights(), 0


class Resume:
    """The file beside the checkpoint `out` that says where its training stands, until it is finished.

    `identity` is all that decides the result; a file of another training is not gone on from. A short training is not
    worth writing down: nothing is saved within `every_seconds` of the last time.
    """

    def __init__(self, out: Path, identity: Any, *, writes: bool, every_seconds: float = 30.0) -> None:
        self._file = out.with_name(f".{out.name}.unfinished") / "standing.pt"
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._writes, self._every_seconds = writes, every_seconds
        self._saved = time.monotonic()

    def load(self) -> TrainingState:
        """Where it stands: at the beginning, where there is no file, or none of this training."""
        if not self._file.exists():
            return TrainingState()
        try:
            found = torch.load(self._file, map_location="cpu", weights_only=True)
            if found.pop("identity") != self._identity:
                return TrainingState()
            standing = TrainingState(**found)
        except Exception as error:  # whatever the damaged bytes happen to cause
            log.warning("%s cannot be read (%s); the training begins anew.", self._file, error)
            return TrainingState()
        log.warning("Going on after %d epochs that an earlier training was through.", len(standing.history))
        return standing

    def save(self, standing: TrainingState) -> None:
        """Keep it, unless it was kept a moment ago."""
        if not self._writes or time.monotonic() - self._saved < self._every_seconds:
            return
        with atomic_file(self._file) as unfinished:
            torch.save({"identity": self._identity, **vars(standing)}, unfinished)
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Clear away what was kept."""
        if self._writes:
            shutil.rmtree(self._file.parent, ignore_errors=True)
