"""The decoder of "Show, Attend and Tell" (Xu et al., 2015)."""

from __future__ import annotations

import torch
from torch import nn

from training.config import DecoderConfig
from training.networks.decoder.attention import AdditiveAttention
from training.networks.decoder.base import DecoderOutput, EncoderOutput, RecurrentDecoder
from training.networks.decoder.recurrence import PARTS, State, layer, run


class ShowAttendTellDecoder(RecurrentDecoder):
    """One recurrent layer that attends before it reads a word, with the paper's gate on the context.

    Its attention depends on the words before, so that it reads a caption word by word.
    """

    attends = True
    attention_type = AdditiveAttention

    def _make_layers(self, config: DecoderConfig) -> None:
        hidden = config.hidden
        self.begin = nn.Linear(2 * hidden, PARTS[config.cell] * hidden)
        self.gate = nn.Linear(hidden, hidden)
        self.recurrent = layer(config.cell, config.embedding + hidden, hidden)
        self.word = nn.Linear(2 * hidden, config.embedding)

    def initial_state(self, encoded: EncoderOutput, captions: int) -> State:
        begin = torch.tanh(self.begin(encoded.pooled)).repeat_interleave(captions, dim=0)  # (N, parts x H)
        return State(tuple(part[None].contiguous() for part in begin.split(self.config.hidden, dim=-1)))  # (1, N, H)

    def decode(
        self, encoded: EncoderOutput, words: torch.Tensor, state: State, lengths: torch.Tensor | None = None
    ) -> DecoderOutput:
        assert self.attention is not None
        assert encoded.attended is not None
        batch, captions, length = words.shape
        embedded = self.dropout(self.embedding(words)).flatten(0, 1)  # (N, T, E)
        states, weights, parts = [], [], state.parts
        for word in embedded.split(1, dim=1):  # (N, 1, E)
            before = parts[0].transpose(0, 1)  # (N, 1, H)
            queries = before.reshape(batch, captions, -1)  # (B, K, H)
            context, each = self.attention(queries, encoded.attended)  # each (B, heads, K, P)
            context = torch.sigmoid(self.gate(before)) * context.reshape(before.shape)
            hidden, parts = run(self.recurrent, torch.cat([word, context], dim=-1), parts)  # (N, 1, H)
            states.append(self.word(self.dropout(torch.cat([hidden, context], dim=-1))))
            weights.append(each.unflatten(2, (captions, 1)))  # (B, heads, K, 1, P)
        attention = torch.cat(weights, dim=3).flatten(2, 3)  # (B, heads, KT, P)
        return DecoderOutput(torch.cat(states, dim=1).view(batch, captions, length, -1), State(parts), attention)
