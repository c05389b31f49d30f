"""Two recurrent layers with attention over the image's grid between them: the architecture that trains fastest.

Bottom-up and top-down attention (Anderson et al., 2018) also attends between two LSTMs, but feeds the second's state
back to the first, which forces a loop over the words. Here the first layer is a language model of its own, so a whole
caption runs through it in one call; all its states then attend at once, and the second layer reads states and contexts.
"""

from __future__ import annotations

import torch
from torch import nn

from training.config import DecoderConfig
from training.networks.decoder.attention import DotAttention
from training.networks.decoder.base import DecoderOutput, EncoderOutput, RecurrentDecoder
from training.networks.decoder.recurrence import PARTS, State, layer, run


class TwoLayerAttentionDecoder(RecurrentDecoder):
    """Language layer, attention, caption layer."""

    attends = True
    attention_type = DotAttention

    def _make_layers(self, config: DecoderConfig) -> None:
        hidden = config.hidden
        self.begin = nn.Linear(2 * hidden, 2 * PARTS[config.cell] * hidden)
        self.first = layer(config.cell, config.embedding, hidden)
        self.second = layer(config.cell, 2 * hidden, hidden)
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
        first, second = state.parts[: len(state.parts) // 2], state.parts[len(state.parts) // 2 :]
        embedded = self.dropout(self.embedding(words)).flatten(0, 1)  # (N, T, E)
        language, first = run(self.first, embedded, first, lengths)  # (N, T, H)
        queries = language.reshape(batch, captions * length, -1)  # (B, KT, H)
        context, weights = self.attention(queries, encoded.attended)
        context = context.reshape(batch * captions, length, -1)  # (N, T, H)
        both = self.dropout(torch.cat([language, context], dim=-1))  # (N, T, 2H)
        caption, second = run(self.second, both, second, lengths)  # (N, T, H)
        states = self.word(self.dropout(torch.cat([caption, context], dim=-1)))  # (N, T, E)
        return DecoderOutput(states.view(batch, captions, length, -1), State((*first, *second)), weights)
