"""A captioner together with its losses: one call an optimisation step, which several processes can share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.learning import losses
from training.learning.distillation import Teacher
from training.learning.losses import Loss
from training.runtime.device import autocast


@dataclass(frozen=True)
class SampledCaptions:
    """Captions `words` (B, K, T) that a decoder has drawn itself, and their `advantages` (B, K)."""

    words: torch.Tensor
    advantages: torch.Tensor


@dataclass(frozen=True)
class Targets:
    """What one step learns from: human captions `words` (B, K, T) with `weights` (B,), or what each of the decoder's
    members has `drawn`, or both."""

    words: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    own_words: float = 0.0
    drawn: Sequence[SampledCaptions] = ()

    @property
    def weighs(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The weights of its losses, known before they are; None for one that is not asked."""
        human, drawn = None, None
        if self.words is not None and self.weights is not None:
            human = losses.human_weight(self.words, self.weights)
        if self.drawn:
            drawn = torch.stack([losses.drawn_weight(one.words) for one in self.drawn]).float().mean()
        return human, drawn


class TrainingStep(nn.Module):
    """`stored` images or grids and a lesson to its losses: of human captions, of drawn ones; None where not asked.

    The members of a decoder learn apart, each by losses of its own, of which these are the means. With a `teacher` a
    share of what is learned of human captions is what it expects.
    """

    def __init__(self, captioner: Captioner, config: TrainingConfig, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.captioner, self.config, self._teacher = captioner, config, teacher

    def forward(self, stored: torch.Tensor, lesson: Targets) -> tuple[Loss | None, Loss | None]:
        grid = self.captioner.see(stored, self.config.shift if self.training else 0)
        expected = None
        if self._teacher and lesson.words is not None:
            expected = self._teacher.expectation(stored, lesson.words)
        human: list[Loss] = []
        drawn: list[Loss] = []
        for number, member in enumerate(self.captioner.decoder.decoders):
            with autocast(grid.device):
                encoded = member.prepare(grid.float())  # once for both losses
            if lesson.words is not None and lesson.weights is not None:
                own_words = lesson.own_words
                human.append(
                    losses.cross_entropy(
                        member, encoded, lesson.words, lesson.weights, self.config, own_words, expected
                    )
                )
            if lesson.drawn:
                own = lesson.drawn[number]
                temperature = self.config.self_critical.temperature
                drawn.append(losses.policy_gradient(member, encoded, own.words, own.advantages, temperature))
        return _mean(human), _mean(drawn)


def _mean(several: Sequence[Loss]) -> Loss | None:
    if not several:
        return None
    totals, weights = zip(*several, strict=True)
    return torch.stack(totals).mean(), torch.stack(weights).float().mean()
