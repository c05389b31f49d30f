"""A recurrent network that gets the image as one vector: as its first state, its first input, or at every step.

The first input is "Show and Tell" (Vinyals et al., 2015); Tanti et al. (2018) compare these places.
"""

from __future__ import annotations

import torch
from torch import nn

from training.config import DecoderConfig
from training.networks.decoder.base import Memory, Reading, RecurrentDecoder
from training.networks.decoder.recurrence import PARTS, Parts, State, layer, run


class PooledDecoder(RecurrentDecoder):
    """What its subclasses differ in is where the image goes in.

    What goes in is normalised (Ba et al., 2016): what all photographs have in common is large beside what tells them
    apart, and would fill every gate.
    """

    image_at_every_step = False

    def _make_layers(self, config: DecoderConfig) -> None:
        inputs = config.embedding * (2 if self.image_at_every_step else 1)
        self.recurrent = layer(config.cell, inputs, config.hidden, config.layers)
        self.word = nn.Linear(config.hidden, config.embedding)

    def read(self, memory: Memory, words: torch.Tensor, state: State, lengths: torch.Tensor | None = None) -> Reading:
        batch, captions, length = words.shape
        inputs = self._inputs(memory, self.dropout(self.embedding(words)))  # (B, K, T, I)
        spoken, parts = run(self.recurrent, inputs.flatten(0, 1), state.parts, lengths)  # (N, T, H)
        states = self.word(self.dropout(spoken))  # (N, T, E)
        return Reading(states.view(batch, captions, length, -1), State(parts))

    def _inputs(self, memory: Memory, embedded: torch.Tensor) -> torch.Tensor:
        return embedded

    def _zeros(self, memory: Memory, captions: int) -> Parts:
        one = self._nothing_said(memory, captions)
        return tuple(part.expand(self.config.layers, -1, -1).contiguous() for part in one)  # (L, N, H)


class InitialStateDecoder(PooledDecoder):
    """The image is the state before the first word."""

    def _make_layers(self, config: DecoderConfig) -> None:
        super()._make_layers(config)
        size = PARTS[config.cell] * config.layers * config.hidden
        self.begin = nn.Sequential(nn.Linear(2 * config.hidden, size), nn.LayerNorm(size))

    def start(self, memory: Memory, captions: int) -> State:
        begin = torch.tanh(self.begin(memory.summary)).repeat_interleave(captions, dim=0)  # (N, parts x L x H)
        shape = (len(begin), PARTS[self.config.cell], self.config.layers, self.config.hidden)
        return State(tuple(part.contiguous() for part in begin.view(shape).permute(1, 2, 0, 3)))  # (L, N, H)


class FirstInputDecoder(PooledDecoder):
    """The image is read like a word before the first one."""

    def _make_layers(self, config: DecoderConfig) -> None:
        super()._make_layers(config)
        self.image = nn.Sequential(nn.Linear(2 * config.hidden, config.embedding), nn.LayerNorm(config.embedding))

    def start(self, memory: Memory, captions: int) -> State:
        image = self.dropout(self.image(memory.summary)[:, None]).repeat_interleave(captions, dim=0)  # (N, 1, E)
        _, parts = run(self.recurrent, image, self._zeros(memory, captions))
        return State(parts)


class EveryStepDecoder(PooledDecoder):
    """The image stands beside every word."""

    image_at_every_step = True

    def _make_layers(self, config: DecoderConfig) -> None:
        super()._make_layers(config)
        self.image = nn.Sequential(nn.Linear(2 * config.hidden, config.embedding), nn.LayerNorm(config.embedding))

    def start(self, memory: Memory, captions: int) -> State:
        return State(self._zeros(memory, captions))

    def _inputs(self, memory: Memory, embedded: torch.Tensor) -> torch.Tensor:
        image = self.dropout(self.image(memory.summary)[:, None, None]).expand(embedded.shape)  # (B, K, T, E)
        return torch.cat([embedded, image.to(embedded.dtype)], dim=-1)
