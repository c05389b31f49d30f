"""The optimiser, its learning rate over time, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn

from training.captioner.captioner import Captioner

FINE_TUNING = 3e-5
"""Learning rate of an encoder with pretrained weights: a higher one spoils them."""
WEIGHT_DECAY = 0.01
"""AdamW's default; 0.3 gained nothing on Flickr8k."""
CLIP = 1.0
"""Greatest norm of the gradient, as is usual for recurrent networks."""
WARM_UP = 0.05
"""Share of all steps in which the learning rate rises."""
DECAY = 0.999
"""Of the exponential moving average of weights, a step."""


def optimiser(captioner: Captioner, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019); biases, norms and embeddings do not decay."""
    encoder_rate = learning_rate if captioner.encoder.config.weights == "none" else FINE_TUNING
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in captioner.named_parameters():
        if parameter.requires_grad:
            rate = encoder_rate if name.startswith("encoder.") else learning_rate
            decay = 0.0 if parameter.ndim < 2 or "embedding" in name else WEIGHT_DECAY
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": several, "lr": rate, "weight_decay": decay} for (rate, decay), several in groups.items()],
        fused=True,
    )


def schedule(steps: int) -> Callable[[int], float]:
    """The share of the learning rate at each of `steps` steps: a linear warm-up, then half a cosine down to zero."""
    warm_up = max(1, round(steps * WARM_UP))

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))

    return share


class WeightAverage:
    """The average of the trainable weights (Polyak & Juditsky, 1992), which scores better than the last weights.

    It is an exponential moving average, or where it is `uniform` the plain mean of all weights, the initial ones
    included.
    """

    def __init__(self, captioner: Captioner, *, uniform: bool = False) -> None:
        self._weights = nn.ParameterList(value for value in captioner.parameters() if value.requires_grad)
        self.average = AveragedModel(self._weights, multi_avg_fn=get_swa_multi_avg_fn() if uniform else _moving)
        if uniform:
            self.update()

    def update(self) -> None:
        """Count the captioner's present weights."""
        self.average.update_parameters(self._weights)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the captioner's weights and the average; a second call changes them back."""
        for weights, average in zip(self._weights, self.average.parameters(), strict=True):
            present = weights.detach().clone()
            weights.copy_(average)
            average.copy_(present)


@torch.no_grad()
def _moving(average: Sequence[torch.Tensor], present: Sequence[torch.Tensor], count: torch.Tensor | int) -> None:
    """A young average is a mean in which later steps count more (Shamir & Zhang, 2013), so that it forgets the random
    initial weights."""
    torch._foreach_lerp_(list(average), list(present), max(1 - DECAY, 9 / (10 + int(count))))
