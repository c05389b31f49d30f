"""What is forgotten while learning, so that nothing is relied on alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

CHANCES = 2**16


class Dropout(nn.Module):
    """As torch's own (Srivastava et al., 2014), of 16 random bits a value, which gives `p` to a part in 65,536.

    Torch draws a number of its own for each value, on a CPU one after the other and for ten times as long.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.p:
            return values
        return values * self._mask(values.shape, values)

    def _mask(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """Zeros in a share of `p`, else what keeps the mean as it was."""
        forgotten = min(round(self.p * CHANCES), CHANCES - 1)
        number = torch.Size(shape).numel()
        numbers = torch.empty(-(-number // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
        bits = numbers.view(torch.int16)[:number].view(*shape)  # from -CHANCES / 2 on
        return (bits >= forgotten - CHANCES // 2).to(like.dtype) * (CHANCES / (CHANCES - forgotten))


class CaptionDropout(Dropout):
    """Dropout over (..., T, H) with one mask for all T words (Gal & Ghahramani, 2016).

    A recurrent layer cannot make up for what is missing at one word by what it saw at the last, and fewer random
    numbers are drawn. Where a decoder reads word by word, each word has a mask of its own.
    """

    def _mask(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        return super()._mask((*shape[:-2], 1, shape[-1]), like)
