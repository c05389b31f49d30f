"""Knowledge distillation: the captioner that a training starts from stays as its teacher.

A captioner that learns from few captions soon overfits them. With a share of the loss on the teacher's predictions it
departs from them only as far as the captions demand (Hinton et al., 2015; Li & Hoiem, 2016, "Learning without
forgetting").
"""

from __future__ import annotations

import copy

import torch

from training.captioner.captioner import Captioner
from training.learning.losses import target_mask
from training.runtime.device import autocast


class Teacher:
    """A copy of `captioner` as it is now. It is no module, so that it is neither trained nor saved."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = copy.deepcopy(captioner).eval()

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
            states = captioner.decoder(grid.float(), words[:, :, :-1]).states[target_mask(words)]  # (M, E)
            return captioner.decoder.logits(states).float().softmax(dim=-1)
