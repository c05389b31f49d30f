"""The recurrent decoder: two LSTMs with attention over the image's grid between them.

Bottom-up and top-down attention (Anderson et al., 2018) also attends between two LSTMs, but feeds the second's state
back to the first, which forces a loop over the words. Here the first LSTM is a language model of its own, so a whole
caption runs through it in one call; all its states then attend at once (scaled dot product, several heads, Vaswani et
al., 2017), and the second LSTM reads states and contexts. The grid is projected once an image and shared by all its
captions in training and all its beams in decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from training.config import DecoderConfig

LstmState = tuple[torch.Tensor, torch.Tensor]  # hidden and cell, each (1, N, H)


@dataclass(frozen=True)
class Memory:
    """What the decoder keeps of an image: keys and values (B, heads, P, D) and a summary (B, 2H)."""

    keys: torch.Tensor
    values: torch.Tensor
    summary: torch.Tensor


@dataclass(frozen=True)
class State:
    """Both LSTMs' states for N = B x K captions, the captions of an image side by side."""

    first: LstmState
    second: LstmState

    def select(self, rows: torch.Tensor) -> State:
        """The captions numbered `rows` (N,), in that order."""
        (h1, c1), (h2, c2) = self.first, self.second
        return State((h1[:, rows], c1[:, rows]), (h2[:, rows], c2[:, rows]))


class Decoder(nn.Module):
    """Grids (B, P, C) and words (B, K, T) to states from which `logits` gives the next word of each caption."""

    def __init__(self, config: DecoderConfig, vocabulary_size: int, channels: int, cells: int, dropout: float = 0.0):
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.grid = nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden))
        self.places = nn.Parameter(torch.randn(cells, hidden) * 0.1)
        self.keys_values = nn.Linear(hidden, 2 * hidden)
        self.begin = nn.Linear(2 * hidden, 4 * hidden)
        self.first = nn.LSTM(config.embedding, hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden)
        self.second = nn.LSTM(2 * hidden, hidden, batch_first=True)
        self.word = nn.Linear(2 * hidden, config.embedding)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5)

    @property
    def vocabulary_size(self) -> int:
        return self.embedding.num_embeddings

    def forward(self, grid: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Teacher forcing: the state (B, K, T, E) after each word of each caption of each image."""
        memory = self.look(grid)
        states, _ = self.read(memory, words, self.start(memory, words.shape[1]))
        return states

    def look(self, grid: torch.Tensor) -> Memory:
        """Project a grid (B, P, C) once, for all captions of its image."""
        batch, cells, _ = grid.shape
        heads = self.config.heads
        places = torch.relu(self.grid(grid) + self.places)  # (B, P, H)
        keys, values = (
            self.keys_values(places).view(batch, cells, 2, heads, -1).permute(2, 0, 3, 1, 4)
        )  # (B, heads, P, D)
        summary = torch.cat([places.mean(dim=1), places.amax(dim=1)], dim=-1)  # (B, 2H)
        return Memory(keys, values, summary)

    def start(self, memory: Memory, captions: int) -> State:
        """The states before the first word, for `captions` captions of each image."""
        begin = torch.tanh(self.begin(memory.summary)).repeat_interleave(captions, dim=0)  # (N, 4H)
        h1, c1, h2, c2 = (part.unsqueeze(0).contiguous() for part in begin.chunk(4, dim=-1))  # (1, N, H)
        return State((h1, c1), (h2, c2))

    def read(self, memory: Memory, words: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Read words (B, K, T) on from `state`; the state (B, K, T, E) after each, and the new `State`."""
        batch, captions, length = words.shape
        embedded = self.dropout(self.embedding(words)).flatten(0, 1)  # (N, T, E)
        spoken, first = self.first(embedded, state.first)  # (N, T, H)
        queries = (
            self.query(spoken).view(batch, captions * length, self.config.heads, -1).transpose(1, 2)
        )  # (B, heads, KT, D)
        # written out: the fused kernel is several times slower on a CPU in bfloat16
        relevance = queries @ memory.keys.transpose(-1, -2) * queries.shape[-1] ** -0.5  # (B, heads, KT, P)
        context = relevance.softmax(dim=-1).to(memory.values.dtype) @ memory.values  # (B, heads, KT, D)
        context = context.transpose(1, 2).reshape(batch * captions, length, -1)  # (N, T, H)
        seen = self.dropout(torch.cat([spoken, context], dim=-1))  # (N, T, 2H)
        thought, second = self.second(seen, state.second)  # (N, T, H)
        states = self.word(self.dropout(torch.cat([thought, context], dim=-1)))  # (N, T, E)
        return states.view(batch, captions, length, -1), State(first, second)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """States (..., E) to scores of every word (..., V), by the input's word vectors (Press & Wolf, 2017)."""
        return F.linear(states, self.embedding.weight, self.bias)

    def grow(self, vocabulary_size: int) -> None:
        """Make room for new words at the end; what was learned of the old ones stays.

        A new word starts as an average word that is as unlikely as the rarest known ones.
        """
        old = self.embedding.weight.detach()
        new = vocabulary_size - len(old)
        if new <= 0:
            return
        spread = torch.randn(new, old.shape[1]).to(old) * old.std() * 0.3
        words = torch.cat([old, old.mean(dim=0) + spread])
        bias = torch.cat([self.bias.detach(), self.bias.detach().quantile(0.1).expand(new)])
        self.embedding = nn.Embedding.from_pretrained(words, freeze=False)
        self.bias = nn.Parameter(bias)
