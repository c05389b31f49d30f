"""Dropout that forgets the same of all words of a caption."""

from __future__ import annotations

import torch
from torch import nn


class CaptionDropout(nn.Module):
    """Dropout over (..., T, H) with one mask for all T words (Gal & Ghahramani, 2016).

    A recurrent layer cannot make up for what is missing at one word by what it saw at the last, and fewer random
    numbers are drawn. Where a decoder reads word by word, each word has a mask of its own.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.p:
            return values
        mask = values.new_empty(*values.shape[:-2], 1, values.shape[-1]).bernoulli_(1 - self.p)
        return values * mask.div_(1 - self.p)
