"""Attention over the cells of an image's grid."""

from __future__ import annotations

import torch
from torch import nn

KeysValues = tuple[torch.Tensor, ...]


class DotAttention(nn.Module):
    """Scaled dot products with several heads (Vaswani et al., 2017)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.query = nn.Linear(hidden, hidden)

    def keys_values(self, cells: torch.Tensor) -> KeysValues:
        """Keys and values (B, heads, P, D) of cells (B, P, H), computed once an image."""
        batch, number, _ = cells.shape
        both = self.key_value(cells).view(batch, number, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        keys, values = both.contiguous()  # otherwise they would be copied into this order for every word
        return keys, values

    def forward(self, queries: torch.Tensor, keys_values: KeysValues) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts (B, Q, H) for queries (B, Q, H), and the weights (B, heads, Q, P)."""
        keys, values = keys_values
        batch, number, _ = queries.shape
        queries = self.query(queries).view(batch, number, self.heads, -1).transpose(1, 2)  # (B, heads, Q, D)
        # written out: the fused kernel is several times slower on a CPU in bfloat16
        scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5  # (B, heads, Q, P)
        weights = scores.softmax(dim=-1).to(values.dtype)
        return (weights @ values).transpose(1, 2).reshape(batch, number, -1), weights


class AdditiveAttention(nn.Module):
    """A small network scores each pair of query and cell (Bahdanau et al., 2015), as in "Show, Attend and Tell".

    It compares them in `hidden // heads` dimensions, because there are as many pairs as queries times cells.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        width = hidden // heads
        self.key = nn.Linear(hidden, width)
        self.value = nn.Linear(hidden, hidden)
        self.query = nn.Linear(hidden, width)
        self.score = nn.Linear(width, 1, bias=False)

    def keys_values(self, cells: torch.Tensor) -> KeysValues:
        """Keys (B, P, A) and values (B, P, H) of cells (B, P, H), computed once an image."""
        return self.key(cells), self.value(cells)

    def forward(self, queries: torch.Tensor, keys_values: KeysValues) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts (B, Q, H) for queries (B, Q, H), and the weights (B, 1, Q, P)."""
        keys, values = keys_values
        pairs = torch.tanh(self.query(queries)[:, :, None] + keys[:, None])  # (B, Q, P, A)
        weights = self.score(pairs).squeeze(-1).softmax(dim=-1).to(values.dtype)  # (B, Q, P)
        return weights @ values, weights[:, None]


Attention = DotAttention | AdditiveAttention
