"""Standardises the channels of a grid, whatever the range of the encoder's features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

LEAST_SPREAD = 0.1
"""Smallest standard deviation of a channel, as a share of the mean over all channels, so that a channel that is almost
constant is not amplified without limit."""


class Standardisation(nn.Module):
    """Brings each channel of grids (B, P, C) to mean 0 and standard deviation 1, once these have been `measure`d.

    They are measured before the first training and then stay, so that learned weights keep their meaning. Until then
    the grid passes unchanged.
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
        # (grid - mean) / spread in one pass: reading and writing the grid takes as long as a layer
        return torch.addcmul(-self.mean / self.spread, grid, 1 / self.spread)
