"""A captioner together with its losses: one call an optimisation step, which several processes can share."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.learning import losses, rewards
from training.learning.losses import Loss
from training.runtime.device import autocast

OFTEN, MORE = 3, 5.0
"""How often a word must occur, and how many times as often as expected, to count as underestimated."""
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


class Teacher:
    """A copy of `captioner` as it is now, to distil from. It is no module, so that it is neither trained nor saved.

    A captioner that learns from few captions soon overfits them. With a share of the loss on the predictions of the one
    it started from it departs from them only as far as the captions demand (Hinton et al., 2015; Li & Hoiem, 2016).

    `underestimated` (V,) are words that the captions use far more often than it expects, such as those of a new
    subject or of a house style: on them, and right after them, it has nothing to teach.
    """

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = copy.deepcopy(captioner).eval()
        self.underestimated = torch.zeros(len(captioner.vocabulary), dtype=torch.bool, device=captioner.device)

    def measure(self, seen: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Find the underestimated words of what is learned: stored images with their words (B, K, T)."""
        expected = torch.zeros(len(self.underestimated), device=self.underestimated.device)
        counts = torch.zeros_like(expected)
        for stored, words in seen:
            expected += self.soft_targets(stored, words).sum(dim=0)
            targets = words[:, :, 1:][losses.target_mask(words)]  # (M,)
            counts += targets.bincount(minlength=len(counts))
        self.underestimated = (counts >= OFTEN) & (counts > MORE * expected)

    def mask(self, words: torch.Tensor) -> torch.Tensor:
        """Which of the M targets of `words` (B, K, T) are learned from its predictions too: (M,)."""
        left_out = self.underestimated[words]  # (B, K, T)
        return ~(left_out[:, :, 1:] | left_out[:, :, :-1])[losses.target_mask(words)]

    def freeze(self, frozen: bool) -> None:
        """Freeze its encoder or not, like that of the captioner it teaches: both get the same inputs."""
        self._captioner.encoder.freeze(frozen)

    @torch.no_grad()
    def soft_targets(self, stored: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Probabilities (M, V) of all words at each of the M target positions of `words` (B, K, T), for images as they
        are `stored`."""
        captioner = self._captioner
        grid = captioner.grids(stored)  # (B, P, C)
        with autocast(captioner.device):
            states = captioner.decoder(grid.float(), words[:, :, :-1]).states[losses.target_mask(words)]  # (M, E)
            return captioner.decoder.logits(states).float().softmax(dim=-1)


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
        soft_targets = taught = None
        if self._teacher:
            soft_targets, taught = self._teacher.soft_targets(stored, targets.words), self._teacher.mask(targets.words)
        human: list[Loss] = []
        sampled: list[Loss] = []
        for number, decoder in enumerate(self.captioner.decoder.decoders):
            with autocast(grid.device):
                encoded = decoder.prepare(grid.float())  # once for both losses
            captions = (targets.words, targets.weights, self.config, targets.scheduled_sampling, soft_targets, taught)
            human.append(losses.cross_entropy(decoder, encoded, *captions))
            if targets.sampled:
                own = targets.sampled[number]
                temperature = rewards.TEMPERATURE
                sampled.append(losses.policy_gradient(decoder, encoded, own.words, own.advantages, temperature))
        return [_mean(several) for several in (human, sampled) if several]


def _mean(several: Sequence[Loss]) -> Loss:
    totals, weights = zip(*several, strict=True)
    return torch.stack(totals).mean(), torch.stack(weights).float().mean()
