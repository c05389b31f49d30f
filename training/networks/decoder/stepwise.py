"""Decoders whose attention depends on what they said before, so that they go through a caption word by word."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from training.config import DecoderConfig
from training.networks.decoder.base import Memory, Reading, RecurrentDecoder
from training.networks.decoder.recurrence import PARTS, Parts, State, layer, run


class StepwiseDecoder(RecurrentDecoder):
    """What its subclasses differ in is one step."""

    attends = True

    def read(self, memory: Memory, words: torch.Tensor, state: State, lengths: torch.Tensor | None = None) -> Reading:
        batch, captions, length = words.shape
        embedded = self.dropout(self.embedding(words)).flatten(0, 1)  # (N, T, E)
        states, weights, parts = [], [], state.parts
        for word in embedded.split(1, dim=1):  # (N, 1, E)
            said, looked, parts = self.step(memory, word, parts, captions)
            states.append(said)
            weights.append(looked.unflatten(2, (captions, 1)))  # (B, heads, K, 1, P)
        everywhere = torch.cat(weights, dim=3).flatten(2, 3)  # (B, heads, KT, P)
        return Reading(torch.cat(states, dim=1).view(batch, captions, length, -1), State(parts), everywhere)

    @abstractmethod
    def step(
        self, memory: Memory, word: torch.Tensor, parts: Parts, captions: int
    ) -> tuple[torch.Tensor, torch.Tensor, Parts]:
        """From one word's vector (N, 1, E): the state (N, 1, E), weights (B, heads, K, P) and the new parts."""

    def _attend(self, memory: Memory, queries: torch.Tensor, captions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts (N, 1, H) for queries (N, 1, H), and the weights (B, heads, K, P)."""
        assert self.attention is not None
        assert memory.attended is not None
        context, weights = self.attention(queries.view(-1, captions, queries.shape[-1]), memory.attended)
        return context.reshape(queries.shape), weights


class ShowAttendTellDecoder(StepwiseDecoder):
    """One recurrent layer that looks before it reads (Xu et al., 2015), with their gate on what it saw."""

    def _make_layers(self, config: DecoderConfig) -> None:
        hidden = config.hidden
        self.begin = nn.Linear(2 * hidden, PARTS[config.cell] * hidden)
        self.gate = nn.Linear(hidden, hidden)
        self.recurrent = layer(config.cell, config.embedding + hidden, hidden)
        self.word = nn.Linear(2 * hidden, config.embedding)

    def start(self, memory: Memory, captions: int) -> State:
        begin = torch.tanh(self.begin(memory.summary)).repeat_interleave(captions, dim=0)  # (N, parts x H)
        return State(tuple(part[None].contiguous() for part in begin.split(self.config.hidden, dim=-1)))  # (1, N, H)

    def step(
        self, memory: Memory, word: torch.Tensor, parts: Parts, captions: int
    ) -> tuple[torch.Tensor, torch.Tensor, Parts]:
        before = parts[0].transpose(0, 1)  # (N, 1, H)
        context, weights = self._attend(memory, before, captions)
        context = torch.sigmoid(self.gate(before)) * context
        spoken, parts = run(self.recurrent, torch.cat([word, context], dim=-1), parts)  # (N, 1, H)
        return self.word(self.dropout(torch.cat([spoken, context], dim=-1))), weights, parts


class TopDownDecoder(StepwiseDecoder):
    """Two recurrent layers with attention between them and the second fed back to the first (Anderson et al., 2018)."""

    def _make_layers(self, config: DecoderConfig) -> None:
        hidden = config.hidden
        self.image = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.LayerNorm(hidden))  # as in PooledDecoder
        self.first = layer(config.cell, config.embedding + 2 * hidden, hidden)
        self.second = layer(config.cell, 2 * hidden, hidden)
        self.word = nn.Linear(hidden, config.embedding)

    def start(self, memory: Memory, captions: int) -> State:
        return State(self._nothing_said(memory, captions) * 2)

    def step(
        self, memory: Memory, word: torch.Tensor, parts: Parts, captions: int
    ) -> tuple[torch.Tensor, torch.Tensor, Parts]:
        first, second = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        image = self.image(memory.summary)[:, None].repeat_interleave(captions, dim=0)  # (N, 1, H)
        spoken, first = run(self.first, torch.cat([second[0].transpose(0, 1), image, word], dim=-1), first)
        context, weights = self._attend(memory, spoken, captions)
        thought, second = run(self.second, self.dropout(torch.cat([context, spoken], dim=-1)), second)  # (N, 1, H)
        return self.word(self.dropout(thought)), weights, (*first, *second)
