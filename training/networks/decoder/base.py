"""What every decoder can do, and what passes between the calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from training.config import DecoderConfig
from training.networks.decoder.attention import ATTENTIONS, Attended, Attention
from training.networks.decoder.dropout import CaptionDropout, Dropout
from training.networks.decoder.recurrence import PARTS, State
from training.networks.decoder.standardisation import Standardisation
from training.vocabulary import PAD


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


class RecurrentDecoder(Decoder):
    """One decoder; what its subclasses differ in is where the image comes in."""

    def __init__(
        self, config: DecoderConfig, vocabulary_size: int, channels: int, cells: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.output = None if config.tied else nn.Parameter(torch.empty(vocabulary_size, config.embedding))
        self.standardisation = Standardisation(channels) if config.standardised else None
        self.grid = nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden))
        self.places = nn.Parameter(torch.randn(cells, hidden) * 0.1)
        self.attention: Attention | None = None
        if self.attends:
            self.attention = ATTENTIONS[config.attention](hidden, config.heads)
        self.dropout = CaptionDropout(dropout)
        self.grid_dropout = Dropout()
        self._make_layers(config)
        for weight in (self.embedding.weight, self.output):
            if weight is not None:
                nn.init.normal_(weight, std=config.embedding**-0.5)

    @abstractmethod
    def _make_layers(self, config: DecoderConfig) -> None:
        """The layers that only this kind of decoder has."""

    @property
    def members(self) -> Sequence[RecurrentDecoder]:
        return (self,)

    @property
    def vocabulary_size(self) -> int:
        return self.embedding.num_embeddings

    def look(self, grid: torch.Tensor) -> Memory:
        """Project a grid (B, P, C)."""
        if self.standardisation is not None:
            grid = self.standardisation(grid)
        places = self.grid_dropout(torch.relu(self.grid(grid) + self.places))  # (B, P, H)
        summary = torch.cat([places.mean(dim=1), places.amax(dim=1)], dim=-1)  # (B, 2H)
        return Memory(summary, self.attention.keep(places) if self.attention is not None else None)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """States (..., E) to scores of every word (..., V); tied: by the input's word vectors (Press & Wolf, 2017)."""
        return F.linear(states, self.embedding.weight if self.output is None else self.output, self.bias)

    def grow(self, vocabulary_size: int) -> None:
        """As `Decoder.grow`: a new word starts as an average word that is as unlikely as the rarest known ones."""
        new = vocabulary_size - self.vocabulary_size
        if new <= 0:
            return
        self.embedding = nn.Embedding.from_pretrained(_grown(self.embedding.weight.detach(), new), freeze=False)
        if self.output is not None:
            self.output = nn.Parameter(_grown(self.output.detach(), new))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), self.bias.detach().quantile(0.1).expand(new)]))

    def _nothing_said(self, memory: Memory, captions: int) -> tuple[torch.Tensor, ...]:
        """Parts of zeros, of one layer."""
        shape = (1, len(memory.summary) * captions, self.config.hidden)
        return tuple(memory.summary.new_zeros(shape) for _ in range(PARTS[self.config.cell]))


def _grown(vectors: torch.Tensor, new: int) -> torch.Tensor:
    spread = torch.randn(new, vectors.shape[1]).to(vectors) * vectors.std() * 0.3
    return torch.cat([vectors, vectors.mean(dim=0) + spread])
