"""What is forgotten while learning, so that nothing is relied on alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

CHANCES = 2**16


class Dropout(nn.Module):
    """Zeros in a share of `p` of the values, the others enlarged so that the mean stays (Srivastava et al., 2014)."""

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

    A recurrent layer cannot make up for what is missing at one word by what it saw at the last, and fewer random
    numbers are drawn. Where a decoder reads word by word, each word has a mask of its own.
    """

    def _shape(self, values: torch.Tensor) -> Sequence[int]:
        return *values.shape[:-2], 1, values.shape[-1]


def mask(shape: Sequence[int], p: float, like: torch.Tensor) -> torch.Tensor:
    """Of `shape`, zero in a share of `p`, else 1 / (1 - p); of the type of `like` and where it is."""
    if like.device.type != "cpu":
        return like.new_empty(shape).bernoulli_(1 - p).div_(1 - p)
    # A CPU draws random numbers one after the other, which may take as long as a layer. Of each here are made four
    # values, which gives `p` to a part in 65,536.
    forgotten = min(round(p * CHANCES), CHANCES - 1)
    number = torch.Size(shape).numel()
    numbers = torch.empty(-(-number // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = numbers.view(torch.int16)[:number].view(*shape)  # from -CHANCES / 2 on
    return (bits >= forgotten - CHANCES // 2).to(like.dtype) * (CHANCES / (CHANCES - forgotten))
