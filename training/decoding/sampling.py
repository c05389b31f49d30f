"""Sampling: captions whose words are drawn at random, from all words or from a nucleus of the likeliest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from training.config import DecodingConfig
from training.decoding.beam_search import IMPOSSIBLE, SHRINK_BELOW, Candidate
from training.networks.decoder import Decoder
from training.vocabulary import END, PAD, START


@dataclass(frozen=True)
class Samples:
    """Captions as ids (B, K, T + 1) from START on, padded with PAD after END, and their log probabilities (B, K)."""

    words: torch.Tensor
    log_probabilities: torch.Tensor

    def tokens(self) -> list[list[tuple[int, ...]]]:
        """The captions of each image without START, END and PAD."""
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

    With `config.top_p` below 1 words come from its nucleus (Holtzman et al., 2020); a `config.temperature` above 1
    flattens the distribution. Captions end after `config.max_length` words and have none of the ids in `never`.
    """
    encoded = decoder.prepare(grid)
    state = decoder.initial_state(encoded, captions)
    ban = torch.zeros(decoder.vocabulary_size, device=grid.device)
    ban[list(never)] = IMPOSSIBLE
    words = torch.full((len(grid), captions, config.max_length + 2), PAD, device=grid.device)
    words[:, :, 0] = START
    total = torch.zeros(words.shape[:2], device=grid.device)
    left = torch.arange(len(grid), device=grid.device)  # (B,), images with unfinished captions
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
            probabilities = _nucleus(allowed.softmax(dim=-1), config.top_p).flatten(0, 1)  # (N, V)
            word = sample_words(probabilities, generator).view(going.shape)
        total[left] += torch.where(going, logs.gather(2, word.unsqueeze(2)).squeeze(2), 0.0)
        words[left, :, length + 1] = torch.where(going, word, PAD)
        going = going & (word != END)
        unfinished = going.any(dim=1).nonzero().squeeze(1)
        if len(unfinished) == 0:
            break
        if len(unfinished) <= SHRINK_BELOW * len(left):
            left, going, encoded = left[unfinished], going[unfinished], encoded.select(unfinished)
            numbers = torch.arange(captions, device=grid.device)
            state = state.select((unfinished[:, None] * captions + numbers).flatten())
    return Samples(words[:, :, : length + 2], total)


def nucleus_sampling(
    decoder: Decoder, grid: torch.Tensor, config: DecodingConfig, never: Collection[int], keep: int = 1
) -> list[list[Candidate]]:
    """`keep` captions of each image, likeliest first; the same for the same seed and batch."""
    generator = torch.Generator(grid.device).manual_seed(config.seed)
    samples = sample_captions(decoder, grid, config, keep, never, generator)
    candidates = [
        [Candidate(tokens, mean := log / (len(tokens) + 1), mean) for tokens, log in zip(captions, logs, strict=True)]
        for captions, logs in zip(samples.tokens(), samples.log_probabilities.tolist(), strict=True)
    ]
    return [sorted(captions, key=lambda one: -one.mean_log_probability) for captions in candidates]


def sample_words(probabilities: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """A word (N,) drawn for each row of `probabilities` (N, V), which need not add up to 1.

    It takes one random number a row. `torch.multinomial` takes one for each word, which lasts as long as a layer.
    """
    cumulative = probabilities.cumsum(dim=-1)  # (N, V)
    most = cumulative[:, -1:]
    point = torch.rand(most.shape, device=probabilities.device, generator=generator) * most
    point = point.minimum(most.nextafter(torch.zeros_like(most)))  # rounded up, it would be beyond the last word
    return torch.searchsorted(cumulative, point, right=True).squeeze(1).clamp(max=probabilities.shape[1] - 1)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """`probabilities` (B, K, V), set to 0 but for the likeliest words that together reach `top_p`; all for 0 or 1."""
    if not 0 < top_p < 1:
        return probabilities
    ordered, words = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.where(before < top_p, ordered, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, words, kept)
