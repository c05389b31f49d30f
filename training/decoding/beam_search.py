"""Batched beam search with length normalisation (Wu et al., 2016, without the coverage term)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch

from training.config import DecodingConfig
from training.networks.decoder import Decoder

IMPOSSIBLE = float("-inf")


@dataclass(frozen=True)
class Hypothesis:
    """A caption by the decoder; its `score` in (0, 1] is the geometric mean of its words' probabilities.

    `ranking_score` is the number that orders the captions of an image, the highest first.
    `feature` is the pooled feature (C,) of its image, half precision in bytes, where the caller asked for it.
    """

    text: str
    score: float
    tokens: tuple[int, ...]
    ranking_score: float = field(default=0.0, compare=False)
    feature: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Candidate:
    """Word ids without start and end tokens, and the mean log probability of the words and the end token.

    `ranking_score` is the number that orders the candidates of an image, the highest first.
    """

    tokens: tuple[int, ...]
    mean_log_probability: float
    ranking_score: float = field(default=0.0, compare=False)

    @property
    def score(self) -> float:
        return min(1.0, max(math.exp(self.mean_log_probability), 1e-12))


class Finished:
    """The best `keep` captions of each of B images among those that have reached the end token so far."""

    def __init__(self, batch: int, keep: int, max_length: int, device: torch.device) -> None:
        self.score = torch.full((batch, keep), IMPOSSIBLE, device=device)
        self.log = torch.zeros((batch, keep), device=device)  # mean log probabilities
        self.length = torch.zeros((batch, keep), dtype=torch.long, device=device)
        self.words = torch.zeros((batch, keep, max_length), dtype=torch.long, device=device)

    def add(self, score: torch.Tensor, log: torch.Tensor, length: int, words: torch.Tensor) -> None:
        """Add captions of one length: `score` and `log` (B, K), `words` (B, K, L)."""
        self.score, best = torch.cat([self.score, score], dim=1).topk(self.score.shape[1], dim=1)  # (B, keep)
        self.log = torch.cat([self.log, log], dim=1).gather(1, best)
        self.length = torch.cat([self.length, torch.full_like(score, length, dtype=torch.long)], dim=1).gather(1, best)
        rows = best[..., None].expand(-1, -1, words.shape[-1])
        self.words = torch.cat([self.words, words], dim=1).gather(1, rows)


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
    """The best `keep` captions of each image of `grid` (B, P, C), best first; fewer where fewer reached the end token.

    They have at least one and at most `config.max_length` words, and none of the ids in `never`. Where no beam of an
    image reaches the end token in time, it gets its best unfinished beam. The result of an image does not depend on its
    batch.
    """
    batch, beam, device = len(grid), config.beam, grid.device
    encoded = decoder.prepare(grid)
    state = decoder.initial_state(encoded, beam)
    vocabulary = decoder.vocabulary_size
    ban = torch.zeros(vocabulary, device=device)
    ban[list(never)] = IMPOSSIBLE
    last = torch.full((batch, beam, 1), start, device=device)
    words = torch.zeros((batch, beam, config.max_length), dtype=torch.long, device=device)  # (B, K, L)
    live = torch.full((batch, beam), IMPOSSIBLE, device=device)  # log probabilities of the beams
    live[:, 0] = 0.0  # all beams start alike, so only one counts
    finished = Finished(batch, keep, config.max_length, device)
    best_live, best_words, best_length = live[:, 0], words[:, 0], torch.zeros(batch, dtype=torch.long, device=device)
    first = torch.arange(batch, device=device).unsqueeze(1) * beam  # (B, 1)

    for length in range(config.max_length + 1):  # words of the live beams
        output = decoder.decode(encoded, last, state)
        state = output.state
        log_probabilities = decoder.logits(output.states[:, :, -1]).float().log_softmax(dim=-1) + ban  # (B, K, V)
        if length:  # no caption is empty
            log = live + log_probabilities[:, :, end]  # (B, K)
            if beam == 1:  # greedy: a caption ends where the end token is likeliest, and only there
                ends = log_probabilities.argmax(dim=2) == end
                log, live = log.masked_fill(~ends, IMPOSSIBLE), live.masked_fill(ends, IMPOSSIBLE)
            finished.add(log / (length + 1) ** config.length_penalty, log / (length + 1), length, words)
        # no live beam can still be among the best: log probabilities only fall, and the divisor is bounded
        bound = live.max(dim=1).values / (config.max_length + 1) ** config.length_penalty
        if length == config.max_length or bool((finished.score[:, -1] >= bound).all()):
            break
        log_probabilities[:, :, end] = IMPOSSIBLE
        extended = (live.unsqueeze(2) + log_probabilities).flatten(1)  # (B, K x V)
        live, chosen = extended.topk(min(beam, extended.shape[1]), dim=1)  # (B, K)
        parent, word = chosen // vocabulary, chosen % vocabulary
        rows = (first + parent).flatten()
        words = words.flatten(0, 1)[rows].view_as(words)
        words[:, :, length] = word
        state, last = state.select(rows), word.unsqueeze(2)
        alive = live[:, 0] > IMPOSSIBLE  # False where no word may follow
        best_live, best_words = (
            torch.where(alive, live[:, 0], best_live),
            torch.where(alive[:, None], words[:, 0], best_words),
        )
        best_length = torch.where(alive, length + 1, best_length)

    none = finished.score[:, 0] == IMPOSSIBLE
    finished.score[none, 0] = 0.0
    finished.length[none, 0], finished.words[none, 0] = best_length[none], best_words[none]
    finished.log[none, 0] = best_live[none] / best_length[none].clamp(min=1)
    return [
        [
            Candidate(tuple(tokens[:length]), log, score)
            for tokens, length, log, score in zip(*captions, strict=True)
            if score > IMPOSSIBLE
        ]
        for captions in zip(
            finished.words.tolist(),
            finished.length.tolist(),
            finished.log.tolist(),
            finished.score.tolist(),
            strict=True,
        )
    ]
