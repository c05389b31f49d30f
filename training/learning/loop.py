"""The stages of a training, epoch by epoch: training, validation, saving, resuming."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.captioner.captioner import BATCH, Captioner
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.errors import DataError
from training.features.batches import batches
from training.features.features import Inputs
from training.learning import new_words
from training.learning.distributed import Group
from training.learning.resume import Resume, TrainingState, Weights
from training.learning.stages import Stage, stages
from training.learning.step import Teacher
from training.learning.trainer import DivergedError, Trainer
from training.learning.validation import Validator
from training.runtime.out_of_memory import MicroBatch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

SAMPLES = 8  # captions an epoch in TensorBoard
EXPECTED = 300  # images at most by which underestimated words are found: the first, in a retrain the new ones
MEASURED = 1000  # images at most by which channels are standardised, each of a hundred cells

ReportProgress = Callable[[str, int, int, int, int, float | None], None]
"""Called with phase, epoch, epochs, step, steps and the loss so far."""


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
        known_words: int | None = None,
    ) -> None:
        self._captioner, self._rows, self._config = captioner, rows, config
        self._cache_dir, self._group, self._teacher = cache_dir, group, teacher
        self._known_words = len(captioner.vocabulary) if known_words is None else known_words
        self.images = 0  # that could be read and learned from
        self.diverged: DivergedError | None = None  # what ended the training after some epochs
        self.micro_batch = MicroBatch(config.batch_size)

    def run(self, progress: ReportProgress, board: SummaryWriter | None, resume: Resume) -> list[dict[str, Any]]:
        """Leave the captioner with the best weights of the training; returns an entry of figures an epoch.

        Raises DivergedError when the training ends so in its first epoch; later it is kept in `diverged`.
        """
        state = resume.load()
        for number, stage in enumerate(stages(self._config)):
            if number < state.stage:
                continue
            if number > state.stage:
                state = TrainingState(number, history=state.history)
            self._captioner.encoder.freeze(stage.frozen)
            if self._teacher:
                self._teacher.freeze(stage.frozen)
            self._stage(stage, state, progress, board, resume)
            if self.diverged:
                break
        self._captioner.encoder.freeze(False)
        return state.history

    def _stage(
        self,
        stage: Stage,
        state: TrainingState,
        progress: ReportProgress,
        board: SummaryWriter | None,
        resume: Resume,
    ) -> None:
        """The remaining epochs of a stage; ends with the best weights, or with the last where there are no dev rows."""
        captioner, config = self._captioner, self._config
        if state.epoch:  # before the inputs, which may be grids of the encoder as it was trained so far
            captioner.load_state_dict(state.captioner, strict=False)
        inputs = Inputs(
            captioner,
            self._rows,
            self._cache_dir,
            lambda done, total: progress("prepare", 0, stage.epochs, done, total, None),
            config.augmented,
            two_views=[row for row in self._rows if row.split == manifest.TRAIN],
            varied=config.augmented,
            group=self._group,
        )
        learned = [row for row in inputs.rows if row.split == manifest.TRAIN]
        if not learned:
            first = self._rows[0].image
            raise DataError(f"None of the {len(self._rows)} images to train on can be read, such as {first}.")
        self.images = len({row.sha256 for row in learned})
        self._measure(inputs, learned)
        if not state.stage and not state.epoch and self._known_words < len(captioner.vocabulary):
            new_words.place(captioner, self._known_words, learned, inputs)
        if self._teacher:
            once = list({row.sha256: row for row in learned}.values())[:EXPECTED]
            self._teacher.measure((inputs.stored(each.hashes), each.words) for each in batches(once, config, captioner))
        dev = [row for row in inputs.rows if row.split == manifest.DEV]
        validator = Validator(captioner, inputs, dev, config, stage)
        if (state.stage or stage.is_rewarded) and not state.epoch:  # it has to be better than what came before
            state.consider(validator.scores(), validator.chooses, self._weights)
        skipped = sum(entry.get("skipped", 0) for entry in state.history)
        trainer = Trainer(
            state.stage,
            stage,
            captioner,
            inputs,
            learned,
            config,
            self._group,
            self.micro_batch,
            self._teacher,
            skipped,
        )
        if state.epoch:
            trainer.load_state(state.trainer)

        for epoch in range(state.epoch + 1, stage.epochs + 1):
            began = time.monotonic()
            try:
                figures = trainer.epoch(epoch, partial(progress, stage.name, epoch, stage.epochs))
            except DivergedError as error:
                if not state.history:
                    raise
                self.diverged = error
                break
            with trainer.averaged():
                scores = validator.scores()
                state.consider(scores, validator.chooses, self._weights)
                if not scores and epoch == stage.epochs:
                    state.best = self._weights()
            seconds = round(time.monotonic() - began, 2)
            entry = {"stage": stage.name, "epoch": epoch, **figures, **scores, "seconds": seconds}
            state.history.append(entry)
            state.epoch, state.captioner, state.trainer = epoch, self._weights(), trainer.state()
            if board:
                _write(board, len(state.history), entry, validator.samples)
            log.info("%s", ", ".join(f"{name} {value}" for name, value in entry.items()))
            resume.save(state)
        if state.best is not None:
            captioner.load_state_dict(state.best, strict=False)

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
        """A copy of all weights, without those of an encoder that is never trained."""
        left_out = "encoder." if self._captioner.encoder.config.trained == "none" else "\0"
        weights = self._captioner.state_dict()
        return {name: value.detach().clone() for name, value in weights.items() if not name.startswith(left_out)}


def _write(board: SummaryWriter, epoch: int, entry: dict[str, Any], samples: Sequence[str]) -> None:
    """Write the figures of an epoch, counted over all stages, and captions of the first development images."""
    for name, value in entry.items():
        if not isinstance(value, str):
            board.add_scalar(name, value, epoch)
    if samples:
        board.add_text("captions", "\n\n".join(samples[:SAMPLES]), epoch)
    board.flush()
