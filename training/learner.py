"""A captioner together with its losses: one call an optimisation step, which several processes can share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from training import losses
from training.config import TrainingConfig
from training.losses import Loss
from training.model import Captioner
from training.teacher import Teacher


@dataclass(frozen=True)
class Lesson:
    """What one step learns from: human captions `words` (B, K, T) with `weights` (B,), or captions the captioner has
    `drawn` (B, K, T) with their `advantages` (B, K), or both."""

    words: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    own_words: float = 0.0
    drawn: torch.Tensor | None = None
    advantages: torch.Tensor | None = None

    @property
    def weighs(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The weights of its losses, known before they are; None for one that is not asked."""
        human, drawn = None, None
        if self.words is not None and self.weights is not None:
            human = losses.human_weight(self.words, self.weights)
        if self.drawn is not None:
            drawn = losses.drawn_weight(self.drawn)
        return human, drawn


class Learner(nn.Module):
    """`stored` images or grids and a lesson to its losses: of human captions, of drawn ones; None where not asked.

    With a `teacher` a share of what is learned of human captions is what it expects.
    """

    def __init__(self, captioner: Captioner, config: TrainingConfig, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.captioner, self.config, self._teacher = captioner, config, teacher

    def forward(self, stored: torch.Tensor, lesson: Lesson) -> tuple[Loss | None, Loss | None]:
        grid = self.captioner.see(stored, self.config.shift if self.training else 0)
        likelihood, regret = None, None
        if lesson.words is not None and lesson.weights is not None:
            expected = self._teacher.expectation(stored, lesson.words) if self._teacher else None
            likelihood = losses.likelihood(
                self.captioner, grid, lesson.words, lesson.weights, self.config, lesson.own_words, expected
            )
        if lesson.drawn is not None and lesson.advantages is not None:
            temperature = self.config.self_critical.temperature
            regret = losses.regret(self.captioner, grid, lesson.drawn, lesson.advantages, temperature)
        return likelihood, regret
