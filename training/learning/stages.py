"""What a training consists of: stages with an optimiser each, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.config import TrainingConfig


@dataclass(frozen=True)
class Stage:
    """Some epochs of one kind. `held`: the encoder is kept as it is, whatever is trained of it later."""

    name: Literal["frozen", "train", "reward"]
    epochs: int
    learning_rate: float
    held: bool = False

    @property
    def is_rewarded(self) -> bool:
        """Whether it learns from scores of its own captions instead of from human ones."""
        return self.name == "reward"


def stages(config: TrainingConfig) -> list[Stage]:
    """Decoder alone, where two steps are asked for; then what is trained; then the self-critical stage."""
    planned = [
        Stage("frozen", config.frozen_epochs, config.learning_rate, held=True),
        Stage("train", config.epochs, config.fine_tuning_rate if config.frozen_epochs else config.learning_rate),
        # rewards say little about pixels: the encoder rests
        Stage("reward", config.self_critical.epochs, config.self_critical.learning_rate, held=True),
    ]
    return [stage for stage in planned if stage.epochs]
