"""A captioner together with its losses: one call an optimisation step, which several processes can share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.learning import losses, rewards
from training.learning.distillation import Teacher
from training.learning.losses import Loss
from training.runtime.device import autocast

SHIFT = 2
"""Pixels by which images are shifted at random at most, where the encoder is trained."""


@dataclass(frozen=True)
class SampledCaptions:
    """Captions `words` (B, K, T) that a decoder has sampled, and their `advantages` (B, K)."""

    words: torch.Tensor
    advantages: torch.Tensor


@dataclass(frozen=True)
class Targets:
    """What one step learns from: human captions `words` (B, K, T) with `weights` (B,), or the captions that each
    decoder of the ensemble has `sampled`, or both. `scheduled_sampling` is the share of words read that is sampled."""

    words: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    scheduled_sampling: float = 0.0
    sampled: Sequence[SampledCaptions] = ()

    @property
    def loss_weights(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The sums of weights of cross-entropy and policy gradient, known before the losses; None for an absent one."""
        human, sampled = None, None
        if self.words is not None and self.weights is not None:
            human = losses.cross_entropy_weight(self.words, self.weights)
        if self.sampled:
            sampled = torch.stack([losses.policy_gradient_weight(one.words) for one in self.sampled]).float().mean()
        return human, sampled


class TrainingStep(nn.Module):
    """From `stored` images or grids and targets to cross-entropy and policy gradient; None for an absent one.

    The decoders of an ensemble are trained independently; the losses are means over them. With a `teacher` a share of
    the cross-entropy is to its predictions.
    """

    def __init__(self, captioner: Captioner, config: TrainingConfig, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.captioner, self.config, self._teacher = captioner, config, teacher

    def forward(self, stored: torch.Tensor, targets: Targets) -> tuple[Loss | None, Loss | None]:
        grid = self.captioner.grids(stored, SHIFT if self.training else 0)
        soft_targets = None
        if self._teacher and targets.words is not None:
            soft_targets = self._teacher.soft_targets(stored, targets.words)
        human: list[Loss] = []
        sampled: list[Loss] = []
        for number, decoder in enumerate(self.captioner.decoder.decoders):
            with autocast(grid.device):
                encoded = decoder.prepare(grid.float())  # once for both losses
            if targets.words is not None and targets.weights is not None:
                captions = (targets.words, targets.weights, self.config, targets.scheduled_sampling, soft_targets)
                human.append(losses.cross_entropy(decoder, encoded, *captions))
            if targets.sampled:
                own = targets.sampled[number]
                temperature = rewards.TEMPERATURE
                sampled.append(losses.policy_gradient(decoder, encoded, own.words, own.advantages, temperature))
        return _mean(human), _mean(sampled)


def _mean(several: Sequence[Loss]) -> Loss | None:
    if not several:
        return None
    totals, weights = zip(*several, strict=True)
    return torch.stack(totals).mean(), torch.stack(weights).float().mean()
