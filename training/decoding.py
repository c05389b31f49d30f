"""Batched beam search with length normalisation (Wu et al., 2016, without the coverage term)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch

from training.config import DecodingConfig
from training.decoder import Decoder

IMPOSSIBLE = float("-inf")


@dataclass(frozen=True)
class Hypothesis:
    """A caption the decoder proposes: `score` in (0, 1] is the geometric mean of its words' probabilities."""

    text: str
    score: float
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """Word ids without start and end, and the mean log probability of each word and the end."""

    tokens: tuple[int, ...]
    mean_log_probability: float

    @property
    def score(self) -> float:
        return min(1.0, max(math.exp(self.mean_log_probability), 1e-12))


@torch.inference_mode()
def beam_search(
    decoder: Decoder, grid: torch.Tensor, config: DecodingConfig, *, start: int, end: int, never: Collection[int]
) -> list[Found]:
    """The best caption of each image of `grid` (B, P, C), of at least one and at most `config.max_length` words.

    `never` are the ids that must not be said. An image none of whose beams reaches the end token within
    `max_length` gets its best unfinished beam. The result of an image does not depend on its batch.
    """
    batch, beam, device = len(grid), config.beam, grid.device
    memory = decoder.look(grid)
    state = decoder.start(memory, beam)
    vocabulary = decoder.vocabulary_size
    ban = torch.zeros(vocabulary, device=device)
    ban[list(never)] = IMPOSSIBLE
    words = torch.full((batch, beam, 1), start, device=device)
    said = torch.zeros((batch, beam, config.max_length), dtype=torch.long, device=device)  # (B, K, L)
    live = torch.full((batch, beam), IMPOSSIBLE, device=device)  # log probabilities of the beams
    live[:, 0] = 0.0  # the beams start alike, so only one counts
    best_said, best_length = said[:, 0].clone(), torch.zeros(batch, dtype=torch.long, device=device)
    best, best_log = live[:, 1 % beam].clone().fill_(IMPOSSIBLE), torch.zeros(batch, device=device)
    first = torch.arange(batch, device=device).unsqueeze(1) * beam  # (B, 1)

    for length in range(config.max_length + 1):  # words said so far
        states, state = decoder.read(memory, words, state)
        log_probabilities = decoder.logits(states[:, :, -1]).float().log_softmax(dim=-1) + ban  # (B, K, V)
        ended = live + log_probabilities[:, :, end]  # (B, K)
        ended_score = ended / (length + 1) ** config.length_penalty
        if length > 0:
            score, which = ended_score.max(dim=1)  # (B,)
            better = score > best
            best = torch.where(better, score, best)
            best_log = torch.where(better, ended.gather(1, which.unsqueeze(1)).squeeze(1) / (length + 1), best_log)
            best_length = torch.where(better, length, best_length)
            best_said = torch.where(better.unsqueeze(1), said[torch.arange(batch, device=device), which], best_said)
        # no live beam can still beat the best: log probabilities only fall, and the divisor is bounded
        bound = live.max(dim=1).values / (config.max_length + 1) ** config.length_penalty
        if length == config.max_length or bool((best >= bound).all()):
            break
        log_probabilities[:, :, end] = IMPOSSIBLE
        going = (live.unsqueeze(2) + log_probabilities).flatten(1)  # (B, K x V)
        live, chosen = going.topk(min(beam, going.shape[1]), dim=1)  # (B, K)
        parent, word = chosen // vocabulary, chosen % vocabulary
        rows = (first + parent).flatten()
        said = said.flatten(0, 1)[rows].view_as(said)
        said[:, :, length] = word
        state, words = state.select(rows), word.unsqueeze(2)

    unfinished = best == IMPOSSIBLE
    best_length = torch.where(unfinished, config.max_length, best_length)
    best_said = torch.where(unfinished.unsqueeze(1), said[:, 0], best_said)
    best_log = torch.where(unfinished, live[:, 0] / config.max_length, best_log)
    return [
        Found(tuple(tokens[:length]), log)
        for tokens, length, log in zip(best_said.tolist(), best_length.tolist(), best_log.tolist(), strict=True)
    ]
