"""The interface of all decoders, and what passes between its calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from training.config import DecoderConfig
from training.networks.decoder.attention import Attention, KeysValues
from training.networks.decoder.dropout import CaptionDropout, Dropout
from training.networks.decoder.recurrence import PARTS, State
from training.networks.decoder.standardisation import Standardisation
from training.vocabulary import PAD


@dataclass(frozen=True)
class EncoderOutput:
    """A grid as a decoder uses it: a pooled feature (B, 2H) and, with attention, keys and values.

    Here and in `DecoderOutput` the tensors of an ensemble's decoders stand side by side (see `Ensemble`).
    """

    pooled: torch.Tensor
    attended: KeysValues | None = None

    def select(self, images: torch.Tensor) -> EncoderOutput:
        """The images numbered `images` (B,), in that order."""
        attended = None if self.attended is None else tuple(tensor[images] for tensor in self.attended)
        return EncoderOutput(self.pooled[images], attended)


@dataclass(frozen=True)
class DecoderOutput:
    """The hidden vectors (B, K, T, E) after each word, and the `State` to continue from.

    `weights` (B, heads, K x T, P) are the attention of each word; None without attention.
    """

    states: torch.Tensor
    state: State
    weights: torch.Tensor | None = None

    @property
    def attention(self) -> torch.Tensor | None:
        """The attention of each word over the cells, (B, K, T, P), the mean of all heads."""
        if self.weights is None:
            return None
        batch, captions, length, _ = self.states.shape
        return self.weights.mean(dim=1).view(batch, captions, length, -1)


class Decoder(nn.Module, ABC):
    """Grids (B, P, C) and words (B, K, T) to hidden vectors from which `logits` scores the next word of each caption.

    A grid is prepared once an image, for all its captions in training and all its beams in decoding.
    """

    attends = False
    config: DecoderConfig

    @property
    @abstractmethod
    def decoders(self) -> Sequence[RecurrentDecoder]:
        """The decoders of an ensemble; a single decoder is the only one of its own."""

    @property
    @abstractmethod
    def vocabulary_size(self) -> int: ...

    def forward(self, grid: torch.Tensor, words: torch.Tensor) -> DecoderOutput:
        """Prepare the grids and `teacher_force` the words."""
        return self.teacher_force(self.prepare(grid), words)

    def teacher_force(self, encoded: EncoderOutput, words: torch.Tensor) -> DecoderOutput:
        """The output after each word of each caption of each image; after PAD it is meaningless."""
        positions = torch.arange(1, words.shape[2] + 1, device=words.device)
        lengths = ((words != PAD) * positions).amax(dim=2).clamp(min=1).flatten()  # (N,)
        return self.decode(encoded, words, self.initial_state(encoded, words.shape[1]), lengths)

    @abstractmethod
    def prepare(self, grid: torch.Tensor) -> EncoderOutput:
        """Project a grid (B, P, C), once for all captions of its image."""

    @abstractmethod
    def initial_state(self, encoded: EncoderOutput, captions: int) -> State:
        """The state before the first word, for `captions` captions of each image."""

    @abstractmethod
    def decode(
        self, encoded: EncoderOutput, words: torch.Tensor, state: State, lengths: torch.Tensor | None = None
    ) -> DecoderOutput:
        """Read words (B, K, T), continuing from `state`; of a caption only the first of its `lengths` (N,) count."""

    @abstractmethod
    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Hidden vectors (..., E) to scores of every word (..., V)."""

    @abstractmethod
    def grow(self, vocabulary_size: int) -> None:
        """Add new words at the end of the vocabulary; the weights of the old ones stay."""

    def set_dropout(self, words: float, grid: float) -> None:
        """Set the dropout rates of word vectors and hidden vectors, and of the grid."""
        for decoder in self.decoders:
            decoder.dropout.p, decoder.grid_dropout.p = words, grid


class RecurrentDecoder(Decoder):
    """A single decoder: grid projection, word embedding and output layer. Its subclasses differ in where the image
    enters. The output layer shares its weights with the embedding (Press & Wolf, 2017)."""

    attention_type: type[Attention] | None = None

    def __init__(
        self, config: DecoderConfig, vocabulary_size: int, channels: int, cells: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.standardisation = Standardisation(channels)
        self.grid = nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden))
        self.positional_embedding = nn.Parameter(torch.randn(cells, hidden) * 0.1)
        self.attention = self.attention_type(hidden, config.heads) if self.attention_type else None
        self.dropout = CaptionDropout(dropout)
        self.grid_dropout = Dropout()
        self._make_layers(config)
        nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5)

    @abstractmethod
    def _make_layers(self, config: DecoderConfig) -> None:
        """The layers that only this architecture has."""

    @property
    def decoders(self) -> Sequence[RecurrentDecoder]:
        return (self,)

    @property
    def vocabulary_size(self) -> int:
        return self.embedding.num_embeddings

    def prepare(self, grid: torch.Tensor) -> EncoderOutput:
        projected = self.grid(self.standardisation(grid)) + self.positional_embedding
        cells = self.grid_dropout(torch.relu(projected))  # (B, P, H)
        pooled = torch.cat([cells.mean(dim=1), cells.amax(dim=1)], dim=-1)  # (B, 2H)
        return EncoderOutput(pooled, self.attention.keys_values(cells) if self.attention is not None else None)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return F.linear(states, self.embedding.weight, self.bias)

    def grow(self, vocabulary_size: int) -> None:
        """As `Decoder.grow`: a new word starts near the mean word vector, as unlikely as the rarest tenth of words."""
        new = vocabulary_size - self.vocabulary_size
        if new <= 0:
            return
        vectors, bias = self.embedding.weight.detach(), self.bias.detach()
        noise = torch.randn(new, vectors.shape[1]).to(vectors) * vectors.std() * 0.3
        grown = torch.cat([vectors, vectors.mean(dim=0) + noise])
        self.embedding = nn.Embedding.from_pretrained(grown, freeze=False)
        self.bias = nn.Parameter(torch.cat([bias, bias.quantile(0.1).expand(new)]))

    def _zero_state(self, encoded: EncoderOutput, captions: int, layers: int = 1) -> State:
        shape = (layers, len(encoded.pooled) * captions, self.config.hidden)
        return State(tuple(encoded.pooled.new_zeros(shape) for _ in range(PARTS[self.config.cell])))
