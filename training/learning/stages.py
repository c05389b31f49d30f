"""The stages of a training, each with an optimiser of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.config import TrainingConfig
from training.learning import rewards

SECOND_STEP_RATE = 2e-4
"""Learning rate of the decoder once the encoder, frozen before, is trained with it."""


@dataclass(frozen=True)
class Stage:
    """Some epochs of one kind. `frozen`: the encoder is frozen, whatever is trained of it in other stages."""

    name: Literal["frozen", "train", "reward"]
    epochs: int
    learning_rate: float
    frozen: bool = False

    @property
    def is_rewarded(self) -> bool:
        """Whether it learns from rewards of sampled captions instead of from human captions."""
        return self.name == "reward"


def stages(config: TrainingConfig) -> list[Stage]:
    """The decoder alone, then all that is trained, then self-critical training; those that have epochs."""
    planned = [
        Stage("frozen", config.frozen_epochs, config.learning_rate, frozen=True),
        Stage("train", config.epochs, SECOND_STEP_RATE if config.frozen_epochs else config.learning_rate),
        # rewards say little about pixels
        Stage("reward", config.self_critical_epochs, rewards.LEARNING_RATE, frozen=True),
    ]
    return [stage for stage in planned if stage.epochs]
