"""Grids whose channels all count alike, however large the numbers are that an encoder gives for each."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

LEAST_SPREAD = 0.1
"""Of a channel, in shares of all channels' mean: one that hardly ever says anything is not to shout when it does."""


class Standardisation(nn.Module):
    """Grids (B, P, C) with each channel's mean taken off and its spread made 1, as both were `measure`d.

    The measures stay what they were when the captioner began to learn, so that what it learned keeps its meaning; until
    then nothing is changed.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    measured: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.register_buffer("measured", torch.tensor(False))

    @torch.no_grad()
    def measure(self, grids: Iterable[torch.Tensor]) -> None:
        """Take mean and standard deviation of every channel over all cells of some grids (B, P, C)."""
        cells, total, squares = 0, torch.zeros_like(self.mean).double(), torch.zeros_like(self.mean).double()
        for grid in grids:
            values = grid.flatten(0, -2).double()  # (BP, C)
            cells += len(values)
            total += values.sum(dim=0)
            squares += (values**2).sum(dim=0)
        self.mean.copy_(total / cells)
        spread = (squares / cells - (total / cells) ** 2).clamp(min=0).sqrt()
        self.spread.copy_(spread.clamp(min=LEAST_SPREAD * spread.mean()) if spread.any() else torch.ones_like(spread))
        self.measured.fill_(True)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        # (grid - mean) / spread, read and written once: it is as long as a layer
        return torch.addcmul(-self.mean / self.spread, grid, 1 / self.spread)
