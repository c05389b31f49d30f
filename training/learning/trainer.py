"""The trainer of one stage: its optimiser, schedule, weight average and rewards, and the steps of an epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.data.agreement import agreed
from training.data.manifest import Row
from training.decoding.sampling import sample_captions
from training.errors import TrainingError
from training.features.batches import Batch, batches
from training.features.features import Inputs
from training.learning import optim, rewards
from training.learning.distributed import Group
from training.learning.losses import LEAST
from training.learning.optim import WeightAverage, optimiser
from training.learning.rewards import Rewards, advantages
from training.learning.stages import Stage
from training.learning.step import SampledCaptions, Targets, Teacher, TrainingStep
from training.runtime.device import autocast
from training.runtime.out_of_memory import MicroBatch
from training.vocabulary import PAD, START, UNKNOWN

log = logging.getLogger(__name__)

MOST_SKIPPED = 10
"""Steps without a finite loss that end a training: a few come by chance, more come from a training that diverges."""


class DivergedError(TrainingError):
    """So many steps were skipped that the training ends."""


class Trainer:
    """Trains one stage on `rows`. The stage's `number` is part of the random seed.

    `micro_batch` is lowered where memory does not suffice for whole batches. `skipped` is the number of steps that
    were skipped before, in other stages too.
    """

    def __init__(
        self,
        number: int,
        stage: Stage,
        captioner: Captioner,
        inputs: Inputs,
        rows: Sequence[Row],
        config: TrainingConfig,
        group: Group,
        micro_batch: MicroBatch | None = None,
        teacher: Teacher | None = None,
        skipped: int = 0,
    ) -> None:
        self._number, self._stage, self._captioner = number, stage, captioner
        self._skipped = skipped
        self._inputs, self._config, self._group = inputs, config, group
        self._rows = agreed(rows, config.agreed_captions) if config.agreed_captions else rows
        self._micro_batch = micro_batch or MicroBatch(config.batch_size)
        self._steps = math.ceil(len(rows) / config.batch_size)
        dropout = (rewards.DROPOUT, rewards.DROPOUT) if stage.is_rewarded else (config.dropout, config.grid_dropout)
        captioner.decoder.set_dropout(*dropout)
        self._optimiser = optimiser(captioner, stage.learning_rate)
        shares = optim.schedule(self._steps * stage.epochs)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, shares)
        # rewards vary much between steps: the mean of all weights since they began is better than a moving average
        self._average = WeightAverage(captioner, uniform=stage.is_rewarded)
        self._rewards = Rewards(rows, captioner.vocabulary) if stage.is_rewarded else None
        self._generator = torch.Generator(captioner.device)
        self._mean_rewards: list[float] = []  # of this process, one a step
        self._training_step = group.wrap(TrainingStep(captioner, config, teacher))

    def epoch(self, epoch: int, progress: Callable[[int, int, float | None], None]) -> dict[str, float]:
        """Go through all rows once: the mean `loss`, the mean `reward` of sampled captions where there are rewards, and
        how many steps were `skipped` if any, because their loss or gradients were no finite numbers.

        `progress` gets step, steps and the mean loss so far. Raises DivergedError after MOST_SKIPPED such steps.
        """
        seed = [self._config.seed, self._number, epoch]  # of each epoch, so that a resumed training goes on alike
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**62)))
        own_seed = np.random.default_rng([*seed, self._group.rank]).integers(2**62)
        self._generator.manual_seed(int(own_seed))  # processes sample captions of different images
        scheduled_sampling = self._config.scheduled_sampling * (epoch - 1) / max(1, self._stage.epochs - 1)
        self._captioner.train()
        self._mean_rewards = []
        skipped_before, mean = self._skipped, None
        total = weight = 0.0
        order = batches(self._rows, self._config, self._captioner, np.random.default_rng(seed))
        for step, batch in enumerate(order, start=1):
            if sums := self._step(batch, scheduled_sampling):
                total, weight = total + sums[0], weight + sums[1]
                mean = total / weight
            else:
                self._skip(epoch, step)
            progress(step, self._steps, mean)
        figures = {} if mean is None else {"loss": mean}
        if self._mean_rewards:
            figures["reward"] = sum(self._mean_rewards) / len(self._mean_rewards)
        if self._skipped > skipped_before:
            figures["skipped"] = self._skipped - skipped_before
        return figures

    def _skip(self, epoch: int, step: int) -> None:
        self._skipped += 1
        log.warning("Step %d of epoch %d is skipped: its loss or gradients are no finite numbers.", step, epoch)
        if self._skipped >= MOST_SKIPPED:
            raise DivergedError(
                f"The training ended in epoch {epoch} of the stage {self._stage.name}, after {self._skipped} steps "
                "whose loss or gradients were no finite numbers: choose a learning_rate below "
                f"{self._stage.learning_rate:g}."
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the captioner has the average of its weights."""
        self._average.swap()
        try:
            yield
        finally:
            self._average.swap()

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on besides the captioner's weights."""
        return {
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "average": self._average.average.state_dict(),
            "images_at_once": self._micro_batch.images,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._average.average.load_state_dict(state["average"])
        self._micro_batch.images = state["images_at_once"]

    def _step(self, whole: Batch, scheduled_sampling: float) -> tuple[float, float] | None:
        """One optimisation step; the sums of the losses and of the weights over all processes. None, and everything is
        as before, where a loss or a gradient is no finite number."""
        batch = whole.part(self._group.rank, self._group.size)
        # statistics of batch normalisation change with the loss, not after it
        changing = () if self._captioner.encoder.frozen else tuple(self._captioner.encoder.buffers())
        before = [buffer.clone() for buffer in changing]
        counted = len(self._mean_rewards)
        while True:
            self._optimiser.zero_grad(set_to_none=True)
            try:
                sums = self._gradients(batch, scheduled_sampling)
                break
            except torch.OutOfMemoryError:
                if self._group.size > 1:
                    raise  # the other processes wait for this one, and cannot go back
            del self._mean_rewards[counted:]
            self._micro_batch.halve()
        # the loss is a mean over the decoders, so that each has only a share of the gradient
        clip = optim.CLIP / math.sqrt(len(self._captioner.decoder.decoders))
        norm = nn.utils.clip_grad_norm_(self._captioner.parameters(), clip)
        # both are the same in every process
        if not (math.isfinite(sums[0]) and math.isfinite(norm)):
            for buffer, value in zip(changing, before, strict=True):
                buffer.copy_(value)
            del self._mean_rewards[counted:]
            return None
        self._optimiser.step()
        self._schedule.step()
        self._average.update()
        return sums

    def _gradients(self, batch: Batch, scheduled_sampling: float) -> tuple[float, float]:
        """Accumulate the gradients of a batch, one micro-batch after another; the sums of its losses and weights."""
        count = math.ceil(len(batch.hashes) / self._micro_batch.images)
        parts = [self._prepared(batch.part(number, count), scheduled_sampling) for number in range(count)]
        kinds = zip(*(targets.loss_weights for _, targets in parts), strict=True)
        weights = [self._group.total(torch.stack(several).sum()).clamp(min=LEAST) for several in kinds]
        share = 1.0 if self._rewards is None else rewards.CROSS_ENTROPY_SHARE
        totals = [torch.zeros((), device=self._captioner.device) for _ in weights]
        for stored, targets in parts:
            objective = torch.zeros((), device=self._captioner.device)
            for kind, (loss, _) in enumerate(self._training_step(stored, targets)):
                # gradients are averaged over processes, but the loss is a mean over the words of all
                objective = objective + (share, 1.0 - share)[kind] * loss * self._group.size / weights[kind]
                totals[kind] += loss.detach()
            objective.backward()
        return self._group.total(totals[-1]).item(), weights[-1].item()

    def _prepared(self, batch: Batch, scheduled_sampling: float) -> tuple[torch.Tensor, Targets]:
        """The stored images or grids of a batch, and its targets."""
        stored = self._inputs.shown(batch.keys)
        if self._rewards is None:
            return stored, Targets(batch.words, batch.weights, scheduled_sampling)
        return stored, Targets(batch.words, batch.weights, sampled=self._sampled(batch, stored, self._rewards))

    def _sampled(self, batch: Batch, grid: torch.Tensor, rewards_of: Rewards) -> list[SampledCaptions]:
        """Captions that each decoder samples for `grid` (B, P, C), with their advantages over all of the image."""
        captioner, decoders = self._captioner, self._captioner.decoder.decoders
        decoding = replace(captioner.decoding, top_p=0.0, temperature=rewards.TEMPERATURE)
        never = (PAD, START, UNKNOWN)
        number = math.ceil(rewards.SAMPLES / len(decoders))
        with autocast(captioner.device):  # with dropout, as in the step that learns from them
            samples = [
                sample_captions(decoder, grid.float(), decoding, number, never, self._generator) for decoder in decoders
            ]
        rewarded = torch.cat([rewards_of.of(batch.hashes, one) for one in samples], dim=1)  # (B, decoders x K)
        self._mean_rewards.append(rewarded.mean().item())
        weighted = advantages(rewarded) * batch.weights[:, None]
        ignored = batch.weights[:, None, None] == 0  # the words of an image without weight do not count
        return [
            SampledCaptions(one.words.masked_fill(ignored, PAD), part)
            for one, part in zip(samples, weighted.chunk(len(samples), dim=1), strict=True)
        ]
