"""Several decoders of one form that learn apart and speak together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from training.config import DecoderConfig
from training.networks.decoder.base import Decoder, Memory, Reading, RecurrentDecoder
from training.networks.decoder.recurrence import State


class Committee(Decoder):
    """Each word is of the mean of the members' probabilities (Hansen & Salamon, 1990, "Neural network ensembles").

    Each member begins with random weights of its own. What one knows by heart the others do not expect, so that the
    mean says better captions than any of them. What passes between calls holds what is each member's: summaries and
    states side by side in the last dimension, weights in that of the heads, and the tensors of what is attended to and
    of `State` one member's after the other's.
    """

    def __init__(self, config: DecoderConfig, build: Callable[[], RecurrentDecoder]) -> None:
        super().__init__()
        self.config = config
        self.seats = nn.ModuleList(build() for _ in range(config.members))
        self.attends = self.members[0].attends

    @property
    def members(self) -> Sequence[RecurrentDecoder]:
        return cast(Sequence[RecurrentDecoder], tuple(self.seats))

    @property
    def vocabulary_size(self) -> int:
        return self.members[0].vocabulary_size

    def look(self, grid: torch.Tensor) -> Memory:
        looks = [member.look(grid) for member in self.members]
        attended = None
        if self.attends:
            attended = tuple(kept for look in looks for kept in look.attended or ())
        return Memory(torch.cat([look.summary for look in looks], dim=-1), attended)

    def start(self, memory: Memory, captions: int) -> State:
        pairs = zip(self.members, self._memories(memory), strict=True)
        return State(tuple(part for member, own in pairs for part in member.start(own, captions).parts))

    def read(self, memory: Memory, words: torch.Tensor, state: State, lengths: torch.Tensor | None = None) -> Reading:
        states = (State(parts) for parts in self._shares(state.parts))
        each = [
            member.read(own, words, before, lengths)
            for member, own, before in zip(self.members, self._memories(memory), states, strict=True)
        ]
        weights = [reading.weights for reading in each if reading.weights is not None]
        return Reading(
            torch.cat([reading.states for reading in each], dim=-1),  # (B, K, T, members x E)
            State(tuple(part for reading in each for part in reading.state.parts)),
            torch.cat(weights, dim=1) if weights else None,  # (B, members x heads, KT, P)
        )

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """The logarithms of the mean probabilities."""
        pairs = zip(self.members, states.chunk(len(self.seats), dim=-1), strict=True)
        logs = [member.logits(own).float().log_softmax(dim=-1) for member, own in pairs]  # each (..., V)
        return torch.stack(logs).logsumexp(dim=0) - math.log(len(logs))

    def grow(self, vocabulary_size: int) -> None:
        for member in self.members:
            member.grow(vocabulary_size)

    def _memories(self, memory: Memory) -> list[Memory]:
        summaries = memory.summary.chunk(len(self.seats), dim=-1)
        attended = self._shares(memory.attended) if memory.attended is not None else [None] * len(self.seats)
        return [Memory(summary, kept) for summary, kept in zip(summaries, attended, strict=True)]

    def _shares(self, tensors: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, ...]]:
        """The tensors of each member, of all members' one after the other."""
        share = len(tensors) // len(self.seats)
        return [tuple(tensors[first : first + share]) for first in range(0, len(tensors), share)]
