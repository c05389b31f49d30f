"""A recurrent network that gets the image as one vector: as its initial state, its first input, or at every step.

The first input is "Show and Tell" (Vinyals et al., 2015); Tanti et al. (2018) compare these places.
"""

from __future__ import annotations

import torch
from torch import nn

from training.config import DecoderConfig
from training.networks.decoder.base import DecoderOutput, EncoderOutput, RecurrentDecoder
from training.networks.decoder.recurrence import PARTS, State, layer, run

LAYERS = 2
"""Recurrent layers: as many as with attention."""


class PooledDecoder(RecurrentDecoder):
    """Its subclasses differ in where the image enters.

    The image's vector is layer-normalised (Ba et al., 2016): what all photographs have in common is large beside their
    differences, and would saturate every gate.
    """

    image_at_every_step = False

    def _make_layers(self, config: DecoderConfig) -> None:
        inputs = config.embedding * (2 if self.image_at_every_step else 1)
        self.recurrent = layer(config.cell, inputs, config.hidden, LAYERS)
        self.word = nn.Linear(config.hidden, config.embedding)

    def decode(
        self, encoded: EncoderOutput, words: torch.Tensor, state: State, lengths: torch.Tensor | None = None
    ) -> DecoderOutput:
        batch, captions, length = words.shape
        inputs = self._inputs(encoded, self.dropout(self.embedding(words)))  # (B, K, T, I)
        hidden, parts = run(self.recurrent, inputs.flatten(0, 1), state.parts, lengths)  # (N, T, H)
        states = self.word(self.dropout(hidden))  # (N, T, E)
        return DecoderOutput(states.view(batch, captions, length, -1), State(parts))

    def _inputs(self, encoded: EncoderOutput, embedded: torch.Tensor) -> torch.Tensor:
        return embedded


class InitialStateDecoder(PooledDecoder):
    """The image is the state before the first word."""

    def _make_layers(self, config: DecoderConfig) -> None:
        super()._make_layers(config)
        size = PARTS[config.cell] * LAYERS * config.hidden
        self.begin = nn.Sequential(nn.Linear(2 * config.hidden, size), nn.LayerNorm(size))

    def initial_state(self, encoded: EncoderOutput, captions: int) -> State:
        begin = torch.tanh(self.begin(encoded.pooled)).repeat_interleave(captions, dim=0)  # (N, parts x L x H)
        shape = (len(begin), PARTS[self.config.cell], LAYERS, self.config.hidden)
        return State(tuple(part.contiguous() for part in begin.view(shape).permute(1, 2, 0, 3)))  # (L, N, H)


class FirstInputDecoder(PooledDecoder):
    """The image is read like a word before the first one."""

    def _make_layers(self, config: DecoderConfig) -> None:
        super()._make_layers(config)
        self.image = nn.Sequential(nn.Linear(2 * config.hidden, config.embedding), nn.LayerNorm(config.embedding))

    def initial_state(self, encoded: EncoderOutput, captions: int) -> State:
        image = self.dropout(self.image(encoded.pooled)[:, None]).repeat_interleave(captions, dim=0)  # (N, 1, E)
        _, parts = run(self.recurrent, image, self._zero_state(encoded, captions, LAYERS).parts)
        return State(parts)


class EveryStepDecoder(FirstInputDecoder):
    """The image is concatenated to every word instead."""

    image_at_every_step = True

    def initial_state(self, encoded: EncoderOutput, captions: int) -> State:
        return self._zero_state(encoded, captions, LAYERS)

    def _inputs(self, encoded: EncoderOutput, embedded: torch.Tensor) -> torch.Tensor:
        image = self.dropout(self.image(encoded.pooled)[:, None, None]).expand(embedded.shape)  # (B, K, T, E)
        return torch.cat([embedded, image.to(embedded.dtype)], dim=-1)
