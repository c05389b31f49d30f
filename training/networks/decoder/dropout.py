"""Dropout, with a mask for a whole caption, and drawn quickly on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

RESOLUTION = 2**16


class Dropout(nn.Module):
    """Zeros in a share of `p` of the values, the others scaled so that the mean stays (Srivastava et al., 2014)."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.p:
            return values
        return values * mask(self._shape(values), self.p, values)

    def _shape(self, values: torch.Tensor) -> Sequence[int]:
        return values.shape


class CaptionDropout(Dropout):
    """Dropout over (..., T, H) with one mask for all T words (Gal & Ghahramani, 2016).

    A recurrent layer cannot make up for what is missing at one word from the word before, and fewer random numbers are
    drawn. A decoder that reads word by word draws a new mask for each word.
    """

    def _shape(self, values: torch.Tensor) -> Sequence[int]:
        return *values.shape[:-2], 1, values.shape[-1]


def mask(shape: Sequence[int], p: float, like: torch.Tensor) -> torch.Tensor:
    """A mask of `shape`: zero in a share of `p`, else 1 / (1 - p); type and device are those of `like`."""
    if like.device.type != "cpu":
        return like.new_empty(shape).bernoulli_(1 - p).div_(1 - p)
    # A CPU draws random numbers one after the other, which may take as long as a layer. Each 64-bit number here gives
    # four 16-bit ones, so `p` is exact to a part in 65,536.
    dropped = min(round(p * RESOLUTION), RESOLUTION - 1)
    number = torch.Size(shape).numel()
    numbers = torch.empty(-(-number // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = numbers.view(torch.int16)[:number].view(*shape)  # from -RESOLUTION / 2 on
    return (bits >= dropped - RESOLUTION // 2).to(like.dtype) * (RESOLUTION / (RESOLUTION - dropped))
