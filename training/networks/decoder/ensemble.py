"""Several decoders of one architecture, trained independently."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from training.config import DecoderConfig
from training.networks.decoder.base import Decoder, DecoderOutput, EncoderOutput, RecurrentDecoder
from training.networks.decoder.recurrence import State


class Ensemble(Decoder):
    """The word probabilities of its decoders are averaged (Hansen & Salamon, 1990, "Neural network ensembles").

    Each decoder starts from random weights of its own. What passes between calls holds the values of all of them:
    pooled features and hidden vectors side by side in the last dimension, attention weights in that of the heads, and
    the tensors of keys, values and `State` one decoder's after the other's.
    """

    def __init__(self, config: DecoderConfig, build: Callable[[], RecurrentDecoder]) -> None:
        super().__init__()
        self.config = config
        self.ensemble = nn.ModuleList(build() for _ in range(config.ensemble))
        self.attends = self.decoders[0].attends

    @property
    def decoders(self) -> Sequence[RecurrentDecoder]:
        return cast(Sequence[RecurrentDecoder], tuple(self.ensemble))

    @property
    def vocabulary_size(self) -> int:
        return self.decoders[0].vocabulary_size

    def prepare(self, grid: torch.Tensor) -> EncoderOutput:
        outputs = [decoder.prepare(grid) for decoder in self.decoders]
        attended = None
        if self.attends:
            attended = tuple(tensor for output in outputs for tensor in output.attended or ())
        return EncoderOutput(torch.cat([output.pooled for output in outputs], dim=-1), attended)

    def initial_state(self, encoded: EncoderOutput, captions: int) -> State:
        pairs = zip(self.decoders, self._outputs(encoded), strict=True)
        return State(tuple(part for decoder, own in pairs for part in decoder.initial_state(own, captions).parts))

    def decode(
        self, encoded: EncoderOutput, words: torch.Tensor, state: State, lengths: torch.Tensor | None = None
    ) -> DecoderOutput:
        states = (State(parts) for parts in self._shares(state.parts))
        outputs = [
            decoder.decode(own, words, before, lengths)
            for decoder, own, before in zip(self.decoders, self._outputs(encoded), states, strict=True)
        ]
        weights = [output.weights for output in outputs if output.weights is not None]
        return DecoderOutput(
            torch.cat([output.states for output in outputs], dim=-1),  # (B, K, T, decoders x E)
            State(tuple(part for output in outputs for part in output.state.parts)),
            torch.cat(weights, dim=1) if weights else None,  # (B, decoders x heads, KT, P)
        )

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """The logarithms of the mean probabilities."""
        pairs = zip(self.decoders, states.chunk(len(self.ensemble), dim=-1), strict=True)
        logs = [decoder.logits(own).float().log_softmax(dim=-1) for decoder, own in pairs]  # each (..., V)
        return torch.stack(logs).logsumexp(dim=0) - math.log(len(logs))

    def grow(self, vocabulary_size: int) -> None:
        for decoder in self.decoders:
            decoder.grow(vocabulary_size)

    def _outputs(self, encoded: EncoderOutput) -> list[EncoderOutput]:
        """The encoder output of each decoder."""
        pooled = encoded.pooled.chunk(len(self.ensemble), dim=-1)
        attended = self._shares(encoded.attended) if encoded.attended is not None else [None] * len(self.ensemble)
        return [EncoderOutput(own, tensors) for own, tensors in zip(pooled, attended, strict=True)]

    def _shares(self, tensors: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, ...]]:
        """The tensors of each decoder, from those of all decoders one after the other."""
        share = len(tensors) // len(self.ensemble)
        return [tuple(tensors[first : first + share]) for first in range(0, len(tensors), share)]
