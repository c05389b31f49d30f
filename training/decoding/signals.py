"""Signals: what tells the captions that people accept from those that they rewrite, as far as a captioner can know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from training.vocabulary import SPECIALS

if TYPE_CHECKING:
    import torch


class Signals(NamedTuple):
    """Signals of a caption and its image; nan where one is unknown.

    `log_probability` is the mean of its words, the end token included. `margin` is its ranking score less that of the
    next best caption that the search came upon. `attention_entropy` is that of the attention over the cells of the
    grid, the mean of all words: 0 where each attends to one cell, 1 where each does to all alike. `rarity` is the mean
    logarithm of its words' ranks in the vocabulary, which begins with the most frequent ones: by Zipf's law that is
    how rare they are. `image_distance` is how far the image's pooled feature lies from the mean of the training images.
    `length` is the logarithm of the number of words: the more there are, the more may be wrong.
    """

    log_probability: float
    margin: float
    attention_entropy: float
    rarity: float
    image_distance: float
    length: float


def length(tokens: Sequence[int]) -> float:
    """The logarithm of the number of these words; nan without words."""
    return math.log(len(tokens)) if tokens else math.nan


def rarity(tokens: Sequence[int]) -> float:
    """The mean logarithm of the ranks of these words; nan without words."""
    if not tokens:
        return math.nan
    return sum(math.log(max(token - len(SPECIALS) + 1, 1)) for token in tokens) / len(tokens)


def attention_entropy(attention: torch.Tensor) -> torch.Tensor:
    """The entropy (B, K) of the attention (B, K, 1, P) of a word over the cells of a grid, as a share of the greatest
    possible one."""
    import torch  # not when the web process starts, which needs the names of the signals alone

    return torch.special.entr(attention[:, :, 0].float()).sum(dim=-1) / math.log(max(attention.shape[-1], 2))
