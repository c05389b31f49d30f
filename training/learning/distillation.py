"""The captioner that a training started from, kept as it was: what it expected is a part of what is learned.

A captioner that learns on from few captions soon knows those by heart. Where a share of each lesson is what it would
have expected itself, it goes no farther from that than the captions bear out (Li & Hoiem, 2016, "Learning without
forgetting"; Hinton et al., 2015).
"""

from __future__ import annotations

import copy

import torch

from training.captioner.captioner import Captioner
from training.learning.losses import counted
from training.runtime.device import autocast


class Teacher:
    """A copy of `captioner` as it is now. No module, for it is neither trained nor written to a checkpoint."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = copy.deepcopy(captioner).eval()

    def hold(self, held: bool) -> None:
        """As the learner's encoder is held, so that both are shown the same."""
        self._captioner.encoder.hold(held)

    @torch.no_grad()
    def expectation(self, stored: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Probabilities (M, V) of all words in the place of each of the M of `words` (B, K, T) that count, of images as
        the learner is shown them, `stored`."""
        captioner = self._captioner
        grid = captioner.see(stored)  # (B, P, C)
        with autocast(captioner.device):
            states = captioner.decoder(grid.float(), words[:, :, :-1]).states[counted(words)]  # (M, E)
            return captioner.decoder.logits(states).float().softmax(dim=-1)
