"""One stage while it runs: its optimiser, schedule, average and rewards, and the steps of an epoch."""

from __future__ import annotations

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
from training.features.batches import Batch, batches
from training.features.features import Inputs
from training.learning.distillation import Teacher
from training.learning.distributed import Group
from training.learning.losses import LEAST
from training.learning.optim import Average, optimiser, rate
from training.learning.rewards import Rewards, advantages
from training.learning.stages import Stage
from training.learning.step import SampledCaptions, Targets, TrainingStep
from training.runtime.device import autocast
from training.runtime.out_of_memory import MicroBatch
from training.vocabulary import PAD, START, UNKNOWN


class Trainer:
    """A stage on the rows it learns from; its number decides, with the seed, what chance brings.

    `portion` is lowered where memory does not suffice for whole batches.
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
        portion: MicroBatch | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self._number, self._stage, self._captioner = number, stage, captioner
        self._inputs, self._config, self._group = inputs, config, group
        self._rows = agreed(rows, config.agreed_captions) if config.agreed_captions else rows
        self._portion = portion or MicroBatch(config.batch_size)
        self._steps = math.ceil(len(rows) / config.batch_size)
        own = config.self_critical
        dropout = (own.dropout, own.dropout) if stage.is_rewarded else (config.dropout, config.grid_dropout)
        captioner.decoder.set_dropout(*dropout)
        self._descent = optimiser(captioner, config, stage.learning_rate)
        shares = rate(config.schedule, self._steps * stage.epochs, config.warmup_share)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._descent, shares)
        averaging = own.averaging if stage.is_rewarded else config.averaging
        self._average = Average(captioner, averaging, heeds_start=stage.is_rewarded) if averaging else None
        self._rewards = Rewards(rows, captioner.vocabulary) if stage.is_rewarded else None
        self._chance = torch.Generator(captioner.device)
        self._earned: list[float] = []  # mean rewards of this process, a number a step
        self._learner = group.wrap(TrainingStep(captioner, config, teacher))

    def epoch(self, epoch: int, tell: Callable[[int, int, float], None]) -> dict[str, float]:
        """Go through all rows once: the mean `loss`, and the mean `reward` of drawn captions where there are rewards.

        `tell` is told step, steps and the mean loss so far.
        """
        seed = [self._config.seed, self._number, epoch]  # of each epoch, so that it does not matter who did the others
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**62)))
        own_seed = np.random.default_rng([*seed, self._group.rank]).integers(2**62)
        self._chance.manual_seed(int(own_seed))  # processes draw captions of different images
        own_words = self._config.scheduled_sampling * (epoch - 1) / max(1, self._stage.epochs - 1)
        self._captioner.train()
        self._earned = []
        total = weight = 0.0
        order = batches(self._rows, self._config, self._captioner, np.random.default_rng(seed))
        for step, batch in enumerate(order, start=1):
            loss, count = self._step(batch, own_words)
            total, weight = total + loss, weight + count
            tell(step, self._steps, total / max(weight, LEAST))
        told = {"loss": total / max(weight, LEAST)}
        if self._earned:
            told["reward"] = sum(self._earned) / len(self._earned)
        return told

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the captioner has the average of its weights, where one is kept."""
        if self._average is None:
            yield
            return
        self._average.swap(self._captioner)
        try:
            yield
        finally:
            self._average.swap(self._captioner)

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on but for the captioner's weights."""
        average = self._average.state() if self._average is not None else None
        return {
            "descent": self._descent.state_dict(),
            "schedule": self._schedule.state_dict(),
            "average": average,
            "images_at_once": self._portion.images,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._descent.load_state_dict(state["descent"])
        self._schedule.load_state_dict(state["schedule"])
        if self._average is not None:
            self._average.load_state(state["average"])
        self._portion.images = state.get("images_at_once", self._portion.whole)

    def _step(self, whole: Batch, own_words: float) -> tuple[float, float]:
        """One step of descent; the sum of the losses and of the weights of all processes."""
        batch = whole.part(self._group.rank, self._group.size)
        told = None
        while told is None:
            told = self._gradients(batch, own_words)
        # of the mean of the members' losses each member's gradient is a share
        most = self._config.clip / math.sqrt(len(self._captioner.decoder.decoders))
        nn.utils.clip_grad_norm_(self._captioner.parameters(), most)
        self._descent.step()
        self._schedule.step()
        if self._average is not None:
            self._average.update(self._captioner)
        return told

    def _gradients(self, batch: Batch, own_words: float) -> tuple[float, float] | None:
        """Gradients of the loss of a batch, and its sum and weight in all processes; None where memory ran out, and the
        same is to be tried again with fewer images at once."""
        earned = len(self._earned)
        self._descent.zero_grad(set_to_none=True)
        try:
            return self._in_parts(batch, own_words)
        except torch.OutOfMemoryError:
            if self._group.size > 1:
                raise  # the others wait for this process, and cannot go back
        del self._earned[earned:]
        self._portion.halve()
        return None

    def _in_parts(self, batch: Batch, own_words: float) -> tuple[float, float]:
        """The same, part after part; together they are what the whole batch at once would be."""
        count = math.ceil(len(batch.hashes) / self._portion.images)
        parts = [self._part(batch.part(number, count), own_words) for number in range(count)]
        weights = [self._everyone([lesson.weighs[kind] for _, lesson in parts]) for kind in range(2)]
        share = 1.0 if self._rewards is None else self._config.self_critical.likelihood_share
        totals = [torch.zeros((), device=self._captioner.device) for _ in weights]
        for stored, lesson in parts:
            objective = torch.zeros((), device=self._captioner.device)
            for kind, loss in enumerate(self._learner(stored, lesson)):
                if loss is None:
                    continue
                # gradients are averaged over processes, but the loss is a mean over the words of all
                objective = objective + (share, 1.0 - share)[kind] * loss[0] * self._group.size / weights[kind]
                totals[kind] += loss[0].detach()
            objective.backward()
        told = int(self._rewards is not None)
        return self._group.total(totals[told]).item(), weights[told].item()

    def _everyone(self, weights: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """The sum of weights over all parts and processes; 1 where there are none."""
        known = [weight for weight in weights if weight is not None]
        if not known:
            return torch.ones((), device=self._captioner.device)
        return self._group.total(torch.stack(known).sum()).clamp(min=LEAST)

    def _part(self, batch: Batch, own_words: float) -> tuple[torch.Tensor, Targets]:
        """What is shown of a batch, and what is learned from it."""
        stored = self._inputs.shown(batch.views)
        if self._rewards is None:
            return stored, Targets(batch.words, batch.weights, own_words)
        return stored, self._own(batch, stored, self._rewards)

    def _own(self, batch: Batch, stored: torch.Tensor, rewards: Rewards) -> Targets:
        """Captions drawn from the captioner and what they are worth; beside human ones where those have a share."""
        captioner, config = self._captioner, self._config.self_critical
        decoding = replace(captioner.decoding, top_p=0.0, temperature=config.temperature, min_length=config.min_length)
        never = (PAD, START, UNKNOWN)
        members = captioner.decoder.decoders
        number = math.ceil(config.samples / len(members))
        with autocast(captioner.device):  # with dropout, as what is drawn is learned
            drawn = [
                sample_captions(member, stored.float(), decoding, number, never, self._chance) for member in members
            ]
        earned = torch.cat([rewards.of(batch.hashes, one) for one in drawn], dim=1)  # (B, members x K)
        self._earned.append(earned.mean().item())
        worth = advantages(earned) * batch.weights[:, None]
        nothing = batch.weights[:, None, None] == 0  # what weighs nothing is not counted
        own = [
            SampledCaptions(one.words.masked_fill(nothing, PAD), part)
            for one, part in zip(drawn, worth.chunk(len(drawn), dim=1), strict=True)
        ]
        if config.likelihood_share:
            return Targets(batch.words, batch.weights, drawn=own)
        return Targets(drawn=own)
