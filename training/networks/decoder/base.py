"""What every decoder can do, and what passes between the calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.config import DecoderConfig
from training.networks.decoder.attention import Attended
from training.networks.decoder.recurrence import State
from training.vocabulary import PAD

if TYPE_CHECKING:
    from training.networks.decoder.recurrent import RecurrentDecoder


@dataclass(frozen=True)
class Memory:
    """What a decoder keeps of an image: a summary (B, 2H) and, for attention, what is attended to.

    Here and in `Reading`, what several members keep stands side by side (see `Committee`).
    """

    summary: torch.Tensor
    attended: Attended | None = None

    def select(self, images: torch.Tensor) -> Memory:
        """What is kept of the images numbered `images` (B,), in that order."""
        attended = None if self.attended is None else tuple(kept[images] for kept in self.attended)
        return Memory(self.summary[images], attended)


@dataclass(frozen=True)
class Reading:
    """What comes of reading words: the states (B, K, T, E) after each, and the `State` to read on from.

    `weights` (B, heads, K x T, P) say where each word looked; None without attention.
    """

    states: torch.Tensor
    state: State
    weights: torch.Tensor | None = None

    @property
    def attention(self) -> torch.Tensor | None:
        """How much each word looked at each cell, (B, K, T, P), the mean of all heads."""
        if self.weights is None:
            return None
        batch, captions, length, _ = self.states.shape
        return self.weights.mean(dim=1).view(batch, captions, length, -1)


class Decoder(nn.Module, ABC):
    """Grids (B, P, C) and words (B, K, T) to states from which `logits` gives the next word of each caption.

    The grid is looked at once an image, for all its captions in training and all its beams in decoding.
    """

    attends = False
    config: DecoderConfig

    @property
    @abstractmethod
    def members(self) -> Sequence[RecurrentDecoder]:
        """The decoders that learn apart from one another; one alone is its own only member."""

    @property
    @abstractmethod
    def vocabulary_size(self) -> int: ...

    def forward(self, grid: torch.Tensor, words: torch.Tensor) -> Reading:
        """Teacher forcing: look at the grids and `follow` the words."""
        return self.follow(self.look(grid), words)

    def follow(self, memory: Memory, words: torch.Tensor) -> Reading:
        """The states after each word of each caption of each image; after PAD they mean nothing."""
        places = torch.arange(1, words.shape[2] + 1, device=words.device)
        lengths = ((words != PAD) * places).amax(dim=2).clamp(min=1).flatten()  # (N,)
        return self.read(memory, words, self.start(memory, words.shape[1]), lengths)

    @abstractmethod
    def look(self, grid: torch.Tensor) -> Memory:
        """What is kept of a grid (B, P, C), for all captions of its image."""

    @abstractmethod
    def start(self, memory: Memory, captions: int) -> State:
        """The state before the first word, for `captions` captions of each image."""

    @abstractmethod
    def read(self, memory: Memory, words: torch.Tensor, state: State, lengths: torch.Tensor | None = None) -> Reading:
        """Read words (B, K, T) on from `state`; of a caption only the first of its `lengths` (N,) need be read."""

    @abstractmethod
    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """States (..., E) to scores of every word (..., V)."""

    @abstractmethod
    def grow(self, vocabulary_size: int) -> None:
        """Make room for new words at the end; what was learned of the old ones stays."""

    def set_dropout(self, words: float, grid: float) -> None:
        """How much is forgotten of words and what follows from them, and of what is seen, while learning."""
        for member in self.members:
            member.dropout.p, member.grid_dropout.p = words, grid
