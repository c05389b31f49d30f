"""The stages of a training, epoch by epoch: what is judged, kept, written down and gone on from."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from training.captioner.captioner import BATCH, Captioner
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.errors import DataError
from training.features.features import Inputs
from training.learning.distillation import Teacher
from training.learning.distributed import Group
from training.learning.resume import Resume, TrainingState, Weights
from training.learning.stages import Stage, stages
from training.learning.tensorboard import TensorBoardLog
from training.learning.trainer import Trainer
from training.learning.validation import Validator
from training.runtime.out_of_memory import MicroBatch

log = logging.getLogger(__name__)

MEASURED = 1000  # images at most by which channels are standardised: of a hundred cells each

Tell = Callable[[str, int, int, int, int, float | None], None]
"""Told phase, epoch, epochs, step, steps and the loss so far."""


class Loop:
    """All stages of one training."""

    def __init__(
        self,
        captioner: Captioner,
        rows: Sequence[Row],
        config: TrainingConfig,
        cache_dir: Path,
        group: Group,
        teacher: Teacher | None = None,
    ) -> None:
        self._captioner, self._rows, self._config = captioner, rows, config
        self._cache_dir, self._group, self._teacher = cache_dir, group, teacher
        self.images = 0  # that could be learned from
        self.portion = MicroBatch(config.batch_size)

    def run(self, tell: Tell, diary: TensorBoardLog, resume: Resume) -> list[dict[str, Any]]:
        """Leave the captioner with the best weights that were found; an entry an epoch says how it went."""
        standing = resume.load()
        for number, stage in enumerate(stages(self._config)):
            if number < standing.stage:
                continue
            if number > standing.stage:
                standing = TrainingState(number, history=standing.history)
            self._captioner.encoder.hold(stage.held)
            if self._teacher:
                self._teacher.hold(stage.held)
            self._stage(stage, standing, tell, diary, resume)
        self._captioner.encoder.hold(False)
        return standing.history

    def _stage(self, stage: Stage, standing: TrainingState, tell: Tell, diary: TensorBoardLog, resume: Resume) -> None:
        """The epochs of a stage that are left; ends with the best weights, or with the last without dev rows."""
        captioner, config = self._captioner, self._config
        if standing.epoch:  # before the inputs, which may be grids of the encoder as it was trained so far
            captioner.load_state_dict(standing.captioner, strict=False)
        taught = [row for row in self._rows if row.split == manifest.TRAIN]
        with self._group.leader_first():
            inputs = Inputs(
                captioner,
                self._rows,
                self._cache_dir,
                lambda done, total: tell("prepare", 0, stage.epochs, done, total, None),
                config.mirrored,
                brief=taught,
                varied=config.varied_looks,
            )
        learned = [row for row in inputs.rows if row.split == manifest.TRAIN]
        if not learned:
            first = self._rows[0].image
            raise DataError(f"None of the {len(self._rows)} images to train on can be read, such as {first}.")
        self.images = len(learned)
        self._measure(inputs, learned)
        judge = Validator(captioner, inputs, [row for row in inputs.rows if row.split == manifest.DEV], config, stage)
        if (standing.stage or stage.is_rewarded) and not standing.epoch:  # has to be better than what came before
            standing.consider(judge.scores(), judge.chooses, self._weights)
        run = Trainer(
            standing.stage, stage, captioner, inputs, learned, config, self._group, self.portion, self._teacher
        )
        if standing.epoch:
            run.load_state(standing.run)

        for epoch in range(standing.epoch + 1, stage.epochs + 1):
            if config.patience and standing.worse >= config.patience:
                break
            began = time.monotonic()
            told = run.epoch(epoch, partial(tell, stage.name, epoch, stage.epochs))
            with run.averaged():
                scores = judge.scores()
                standing.consider(scores, judge.chooses, self._weights)
                if not scores and epoch == stage.epochs:
                    standing.best = self._weights()
            seconds = round(time.monotonic() - began, 2)
            entry = {"stage": stage.name, "epoch": epoch, **told, **scores, "seconds": seconds}
            standing.history.append(entry)
            standing.epoch, standing.captioner, standing.run = epoch, self._weights(), run.state()
            diary.tell(len(standing.history), entry, judge.samples)
            log.info("%s", ", ".join(f"{name} {value}" for name, value in entry.items()))
            resume.save(standing)
        if standing.best is not None:
            captioner.load_state_dict(standing.best, strict=False)

    def _measure(self, inputs: Inputs, rows: Sequence[Row]) -> None:
        """Measure the channels of a sample of the images, before the first training; see `Standardisation`."""
        first, *others = [decoder.standardisation for decoder in self._captioner.decoder.decoders]
        if first.measured:
            return
        if self._captioner.encoder.from_nothing:  # its features are still to be learned
            for each in (first, *others):
                each.measured.fill_(True)
            return
        views = [row.sha256 for row in rows[:: math.ceil(len(rows) / MEASURED)]]
        self._captioner.eval()
        first.measure(inputs.grid(views[begin : begin + BATCH]) for begin in range(0, len(views), BATCH))
        for other in others:
            other.load_state_dict(first.state_dict())

    def _weights(self) -> Weights:
        """A copy of all weights but those of an encoder that is never trained."""
        left_out = "encoder." if self._captioner.encoder.config.trained == "none" else "\0"
        weights = self._captioner.state_dict()
        return {name: value.detach().clone() for name, value in weights.items() if not name.startswith(left_out)}
