"""Attention over the cells of an image's grid."""

from __future__ import annotations

import torch
from torch import nn

Attended = tuple[torch.Tensor, ...]  # what is kept of an image: keys and values


class DotAttention(nn.Module):
    """Scaled dot products with several heads (Vaswani et al., 2017)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.keys_values = nn.Linear(hidden, 2 * hidden)
        self.query = nn.Linear(hidden, hidden)

    def keep(self, places: torch.Tensor) -> Attended:
        """Keys and values (B, heads, P, D) of places (B, P, H), computed once an image."""
        batch, cells, _ = places.shape
        kept = self.keys_values(places).view(batch, cells, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        keys, values = kept.contiguous()  # or they would be put in order again for every word that is said
        return keys, values

    def forward(self, queries: torch.Tensor, kept: Attended) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts (B, Q, H) for queries (B, Q, H), and the weights (B, heads, Q, P)."""
        keys, values = kept
        batch, number, _ = queries.shape
        asked = self.query(queries).view(batch, number, self.heads, -1).transpose(1, 2)  # (B, heads, Q, D)
        # written out: the fused kernel is several times slower on a CPU in bfloat16
        relevance = asked @ keys.transpose(-1, -2) * asked.shape[-1] ** -0.5  # (B, heads, Q, P)
        weights = relevance.softmax(dim=-1).to(values.dtype)
        return (weights @ values).transpose(1, 2).reshape(batch, number, -1), weights


class AdditiveAttention(nn.Module):
    """A small network compares query and place (Bahdanau et al., 2015), as in "Show, Attend and Tell".

    It compares in `hidden // heads` dimensions, because every query meets every place there.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        width = hidden // heads
        self.key = nn.Linear(hidden, width)
        self.value = nn.Linear(hidden, hidden)
        self.query = nn.Linear(hidden, width)
        self.score = nn.Linear(width, 1, bias=False)

    def keep(self, places: torch.Tensor) -> Attended:
        """Keys (B, P, A) and values (B, P, H) of places (B, P, H), computed once an image."""
        return self.key(places), self.value(places)

    def forward(self, queries: torch.Tensor, kept: Attended) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts (B, Q, H) for queries (B, Q, H), and the weights (B, 1, Q, P)."""
        keys, values = kept
        together = torch.tanh(self.query(queries)[:, :, None] + keys[:, None])  # (B, Q, P, A)
        weights = self.score(together).squeeze(-1).softmax(dim=-1).to(values.dtype)  # (B, Q, P)
        return weights @ values, weights[:, None]


Attention = DotAttention | AdditiveAttention
ATTENTIONS: dict[str, type[Attention]] = {"dot": DotAttention, "additive": AdditiveAttention}
