"""Captions drawn at random: from all words, or from the likeliest that together have a given probability."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from training.config import DecodingConfig
from training.decoding.beam_search import IMPOSSIBLE, Candidate
from training.networks.decoder import Decoder
from training.vocabulary import END, PAD, START

WORTH_LEAVING = 0.8
"""Share of the images at most that still go on where the others are left out: to put them together costs, too."""


@dataclass(frozen=True)
class Samples:
    """Captions as ids (B, K, T + 1) from START, after their END padded with PAD, and their log probabilities (B, K)."""

    words: torch.Tensor
    log_probabilities: torch.Tensor

    def tokens(self) -> list[list[tuple[int, ...]]]:
        """For each image the captions without START, END and PAD."""
        return [
            [tuple(word for word in caption[1:] if word not in {END, PAD}) for caption in captions]
            for captions in self.words.tolist()
        ]


@torch.no_grad()
def sample_captions(
    decoder: Decoder,
    grid: torch.Tensor,
    config: DecodingConfig,
    captions: int,
    never: Collection[int],
    generator: torch.Generator | None = None,
) -> Samples:
    """`captions` captions of each image of `grid` (B, P, C), each word drawn from the decoder's distribution.

    With `config.top_p` below 1 from its nucleus (Holtzman et al., 2020); `config.temperature` flattens the
    distribution. What is not finished after `config.max_length` words ends there. `never` are ids that are not said.
    """
    encoded = decoder.prepare(grid)
    state = decoder.initial_state(encoded, captions)
    ban = torch.zeros(decoder.vocabulary_size, device=grid.device)
    ban[list(never)] = IMPOSSIBLE
    words = torch.full((len(grid), captions, config.max_length + 2), PAD, device=grid.device)
    words[:, :, 0] = START
    total = torch.zeros(words.shape[:2], device=grid.device)
    left = torch.arange(len(grid), device=grid.device)  # (B,), the images some of whose captions go on
    going = torch.ones_like(total, dtype=torch.bool)  # (B, K)
    for length in range(config.max_length + 1):
        output = decoder.decode(encoded, words[left, :, length].unsqueeze(2), state)
        state = output.state
        logits = decoder.logits(output.states[:, :, -1]).float()  # (B, K, V)
        logs = logits.log_softmax(dim=-1)
        allowed = logits / config.temperature + ban
        if not length:  # no caption is empty
            allowed[..., END] = IMPOSSIBLE
        if length == config.max_length:
            word = torch.full_like(going, END, dtype=torch.long)
        else:
            chances = _nucleus(allowed.softmax(dim=-1), config.top_p).flatten(0, 1)  # (N, V)
            word = sample_words(chances, generator).view(going.shape)
        total[left] += torch.where(going, logs.gather(2, word.unsqueeze(2)).squeeze(2), 0.0)
        words[left, :, length + 1] = torch.where(going, word, PAD)
        going = going & (word != END)
        unfinished = going.any(dim=1).nonzero().squeeze(1)
        if len(unfinished) == 0:
            break
        if len(unfinished) <= WORTH_LEAVING * len(left):
            left, going, encoded = left[unfinished], going[unfinished], encoded.select(unfinished)
            places = torch.arange(captions, device=grid.device)
            state = state.select((unfinished[:, None] * captions + places).flatten())
    return Samples(words[:, :, : length + 2], total)


def nucleus_sampling(
    decoder: Decoder, grid: torch.Tensor, config: DecodingConfig, never: Collection[int], keep: int = 1
) -> list[list[Candidate]]:
    """`keep` captions of each image by nucleus sampling, likeliest first; the same for the same seed and batch."""
    generator = torch.Generator(grid.device).manual_seed(config.seed)
    drawn = sample_captions(decoder, grid, config, keep, never, generator)
    found = [
        [Candidate(tokens, log / (len(tokens) + 1)) for tokens, log in zip(captions, logs, strict=True)]
        for captions, logs in zip(drawn.tokens(), drawn.log_probabilities.tolist(), strict=True)
    ]
    return [sorted(captions, key=lambda one: -one.mean_log_probability) for captions in found]


def sample_words(chances: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """A word (N,) for each row of `chances` (N, V), which are not below zero.

    One random number a row, where `torch.multinomial` draws one for each word, which takes as long as a layer does.
    """
    reached = chances.cumsum(dim=-1)  # (N, V)
    most = reached[:, -1:]
    drawn = torch.rand(most.shape, device=chances.device, generator=generator) * most
    drawn = drawn.minimum(most.nextafter(torch.zeros_like(most)))  # rounded up, it would be no word's
    return torch.searchsorted(reached, drawn, right=True).squeeze(1).clamp(max=chances.shape[1] - 1)


def _nucleus(chances: torch.Tensor, top_p: float) -> torch.Tensor:
    """The chances (B, K, V) of the likeliest words that together reach `top_p`; of all words where it is 0 or 1."""
    if not 0 < top_p < 1:
        return chances
    ordered, words = chances.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.where(before < top_p, ordered, 0.0)
    return torch.zeros_like(chances).scatter(-1, words, kept)
