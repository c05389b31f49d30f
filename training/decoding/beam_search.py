"""Batched beam search with length normalisation (Wu et al., 2016, without the coverage term)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch

from training.config import DecodingConfig
from training.networks.decoder import Decoder

IMPOSSIBLE = float("-inf")


@dataclass(frozen=True)
class Hypothesis:
    """A caption the decoder proposes: `score` in (0, 1] is the geometric mean of its words' probabilities."""

    text: str
    score: float
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Candidate:
    """Word ids without start and end, and the mean log probability of each word and the end."""

    tokens: tuple[int, ...]
    mean_log_probability: float

    @property
    def score(self) -> float:
        return min(1.0, max(math.exp(self.mean_log_probability), 1e-12))


class Ended:
    """The best `keep` captions of each of B images that have reached their end so far."""

    def __init__(self, batch: int, keep: int, max_length: int, device: torch.device) -> None:
        self.score = torch.full((batch, keep), IMPOSSIBLE, device=device)
        self.log = torch.zeros((batch, keep), device=device)  # mean log probabilities
        self.length = torch.zeros((batch, keep), dtype=torch.long, device=device)
        self.said = torch.zeros((batch, keep, max_length), dtype=torch.long, device=device)

    def add(self, score: torch.Tensor, log: torch.Tensor, length: int, said: torch.Tensor) -> None:
        """Take in captions of one length: `score` and `log` (B, K), `said` (B, K, L)."""
        self.score, best = torch.cat([self.score, score], dim=1).topk(self.score.shape[1], dim=1)  # (B, keep)
        self.log = torch.cat([self.log, log], dim=1).gather(1, best)
        self.length = torch.cat([self.length, torch.full_like(score, length, dtype=torch.long)], dim=1).gather(1, best)
        places = best[..., None].expand(-1, -1, said.shape[-1])
        self.said = torch.cat([self.said, said], dim=1).gather(1, places)


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    grid: torch.Tensor,
    config: DecodingConfig,
    *,
    start: int,
    end: int,
    never: Collection[int],
    keep: int = 1,
) -> list[list[Candidate]]:
    """The best `keep` captions of each image of `grid` (B, P, C), best first; fewer where no more reached their end.

    They have at least one and at most `config.max_length` words. `never` are the ids that must not be
    said. An image none of whose beams reaches the end token in time gets its best unfinished beam. The result of an
    image does not depend on its batch.
    """
    batch, beam, device = len(grid), config.beam, grid.device
    encoded = decoder.prepare(grid)
    state = decoder.initial_state(encoded, beam)
    vocabulary = decoder.vocabulary_size
    ban = torch.zeros(vocabulary, device=device)
    ban[list(never)] = IMPOSSIBLE
    words = torch.full((batch, beam, 1), start, device=device)
    said = torch.zeros((batch, beam, config.max_length), dtype=torch.long, device=device)  # (B, K, L)
    live = torch.full((batch, beam), IMPOSSIBLE, device=device)  # log probabilities of the beams
    live[:, 0] = 0.0  # the beams start alike, so only one counts
    ended = Ended(batch, keep, config.max_length, device)
    best_live, best_said, best_length = live[:, 0], said[:, 0], torch.zeros(batch, dtype=torch.long, device=device)
    first = torch.arange(batch, device=device).unsqueeze(1) * beam  # (B, 1)

    for length in range(config.max_length + 1):  # words said so far
        output = decoder.decode(encoded, words, state)
        state = output.state
        log_probabilities = decoder.logits(output.states[:, :, -1]).float().log_softmax(dim=-1) + ban  # (B, K, V)
        if length:  # no caption is empty
            log = live + log_probabilities[:, :, end]  # (B, K)
            if beam == 1:  # greedy: it ends where the end is likeliest, and only there
                ends = log_probabilities.argmax(dim=2) == end
                log, live = log.masked_fill(~ends, IMPOSSIBLE), live.masked_fill(ends, IMPOSSIBLE)
            ended.add(log / (length + 1) ** config.length_penalty, log / (length + 1), length, said)
        # no live beam can still get in: log probabilities only fall, and the divisor is bounded
        bound = live.max(dim=1).values / (config.max_length + 1) ** config.length_penalty
        if length == config.max_length or bool((ended.score[:, -1] >= bound).all()):
            break
        log_probabilities[:, :, end] = IMPOSSIBLE
        going = (live.unsqueeze(2) + log_probabilities).flatten(1)  # (B, K x V)
        live, chosen = going.topk(min(beam, going.shape[1]), dim=1)  # (B, K)
        parent, word = chosen // vocabulary, chosen % vocabulary
        rows = (first + parent).flatten()
        said = said.flatten(0, 1)[rows].view_as(said)
        said[:, :, length] = word
        state, words = state.select(rows), word.unsqueeze(2)
        alive = live[:, 0] > IMPOSSIBLE  # no longer where no word may follow
        best_live, best_said = (
            torch.where(alive, live[:, 0], best_live),
            torch.where(alive[:, None], said[:, 0], best_said),
        )
        best_length = torch.where(alive, length + 1, best_length)

    none = ended.score[:, 0] == IMPOSSIBLE
    ended.score[none, 0] = 0.0
    ended.length[none, 0], ended.said[none, 0] = best_length[none], best_said[none]
    ended.log[none, 0] = best_live[none] / best_length[none].clamp(min=1)
    return [
        [
            Candidate(tuple(tokens[:length]), log)
            for tokens, length, log, score in zip(*captions, strict=True)
            if score > IMPOSSIBLE
        ]
        for captions in zip(
            ended.said.tolist(), ended.length.tolist(), ended.log.tolist(), ended.score.tolist(), strict=True
        )
    ]
