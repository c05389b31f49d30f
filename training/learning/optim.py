"""How weights move: the optimiser, its learning rate over time, and the average of where they have been."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from training.captioner.captioner import Captioner
from training.config import FINE_TUNING, TrainingConfig


def optimiser(captioner: Captioner, config: TrainingConfig, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019); biases, norms and embeddings do not decay."""
    usual = learning_rate if captioner.encoder.from_nothing else FINE_TUNING
    encoder_rate = config.encoder_learning_rate or usual
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in captioner.named_parameters():
        if parameter.requires_grad:
            rate = encoder_rate if name.startswith("encoder.") else learning_rate
            decay = 0.0 if parameter.ndim < 2 or "embedding" in name else config.weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        fused=True,
    )


def rate(schedule: str, steps: int, warmup_share: float) -> Callable[[int], float]:
    """The share of the learning rate at each of `steps` steps: a linear rise, then the schedule."""
    warmup = max(1, round(steps * warmup_share)) if warmup_share else 0

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        gone = min(1.0, (step - warmup) / max(1, steps - warmup))
        return {"cosine": 0.5 * (1 + math.cos(math.pi * gone)), "linear": 1 - gone, "constant": 1.0}[schedule]

    return share


class Average:
    """The exponential moving average of all weights (Polyak & Juditsky, 1992), which scores better than the last ones.

    A young one is a mean in which later steps count more (Shamir & Zhang, 2013), so that it does not hang on to the
    random weights of the beginning. Where it `heeds_start` it is a plain mean, in which the beginning counts as any
    step; with a `decay` of 1 it stays one.
    """

    def __init__(self, captioner: Captioner, decay: float, *, heeds_start: bool = False) -> None:
        self.decay, self.steps = decay, 0
        self._haste = 1 if heeds_start else 9
        self.weights = {name: value.detach().clone() for name, value in _moving(captioner).items()}

    @torch.no_grad()
    def update(self, captioner: Captioner) -> None:
        self.steps += 1
        share = max(1 - self.decay, self._haste / (self._haste + self.steps))
        moving = _moving(captioner)
        torch._foreach_lerp_(list(self.weights.values()), [moving[name].detach() for name in self.weights], share)

    @torch.no_grad()
    def swap(self, captioner: Captioner) -> None:
        """Exchange the captioner's weights and the average; a second call changes them back."""
        for name, value in _moving(captioner).items():
            present = value.detach().clone()
            value.copy_(self.weights[name])
            self.weights[name] = present

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "weights": self.weights}

    def load_state(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.weights = {name: state["weights"][name].to(value.device) for name, value in self.weights.items()}


def _moving(captioner: Captioner) -> dict[str, torch.Tensor]:
    """The weights that are trained."""
    return {name: value for name, value in captioner.named_parameters() if value.requires_grad}
