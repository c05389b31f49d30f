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
    """What one step learns from: human captions `words` (B, K, T) with `weights` (B,), and in a stage of rewards the
    captions that each decoder has `sampled`. `scheduled_sampling` is the share of words read that is sampled."""

    words: torch.Tensor
    weights: torch.Tensor
    scheduled_sampling: float = 0.0
    sampled: Sequence[SampledCaptions] = ()

    @property
    def loss_weights(self) -> list[torch.Tensor]:
        """The sums of weights of the losses that `TrainingStep` returns, known before the losses."""
        human = losses.cross_entropy_weight(self.words, self.weights)
        sampled = [losses.policy_gradient_weight(one.words) for one in self.sampled]
        return [human, torch.stack(sampled).float().mean()] if sampled else [human]


class TrainingStep(nn.Module):
    """From `stored` images or grids and targets to cross-entropy and, of sampled captions, the policy gradient.

    The decoders of an ensemble are trained independently; the losses are means over them. With a `teacher` a share of
    the cross-entropy is to its predictions.
    """

    def __init__(self, captioner: Captioner, config: TrainingConfig, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.captioner, self.config, self._teacher = captioner, config, teacher

    def forward(self, stored: torch.Tensor, targets: Targets) -> list[Loss]:
        grid = self.captioner.grids(stored, SHIFT if self.training else 0)
        soft_targets = self._teacher.soft_targets(stored, targets.words) if self._teacher else None
        human: list[Loss] = []
        sampled: list[Loss] = []
        for number, decoder in enumerate(self.captioner.decoder.decoders):
            with autocast(grid.device):
                encoded = decoder.prepare(grid.float())  # once for both losses
            captions = (targets.words, targets.weights, self.config, targets.scheduled_sampling, soft_targets)
            human.append(losses.cross_entropy(decoder, encoded, *captions))
            if targets.sampled:
                own = targets.sampled[number]
                temperature = rewards.TEMPERATURE
                sampled.append(losses.policy_gradient(decoder, encoded, own.words, own.advantages, temperature))
        return [_mean(several) for several in (human, sampled) if several]


def _mean(several: Sequence[Loss]) -> Loss:
    totals, weights = zip(*several, strict=True)
    return torch.stack(totals).mean(), torch.stack(weights).float().mean()
