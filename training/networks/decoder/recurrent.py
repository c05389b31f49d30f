"""What all single decoders share: the look at the image, words in, and scores of words out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from training.config import DecoderConfig
from training.networks.decoder.attention import ATTENTIONS, Attention
from training.networks.decoder.base import Decoder, Memory
from training.networks.decoder.dropout import CaptionDropout, Dropout
from training.networks.decoder.recurrence import PARTS
from training.networks.decoder.standardisation import Standardisation


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
