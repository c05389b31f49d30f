"""Word vectors of new words: each begins among the known words that the captioner expects in its place."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.data.manifest import Row
from training.features.batches import batches
from training.features.features import Inputs
from training.networks.decoder.base import RecurrentDecoder
from training.runtime.device import autocast
from training.vocabulary import END, PAD, START, UNKNOWN

AVERAGED = 10
"""Known words whose vectors a new one is the mean of."""
NOISE = 0.1
"""Of the spread of all word vectors, so that two new words of the same sentence do not begin alike."""
MOST_ROWS = 1000


@torch.no_grad()
def place(captioner: Captioner, known: int, rows: Sequence[Row], inputs: Inputs) -> None:
    """Give the words after the first `known` of the vocabulary vectors and biases by how `rows` use them.

    Wherever a new word stands, the captioner has probabilities for the known words that could stand there instead; the
    new word becomes their weighted mean. So it is about as likely as they are before the first step.
    """
    encode = captioner.vocabulary.encode
    using = [row for row in rows if any(max(encode(text)) >= known for text in row.references)][:MOST_ROWS]
    if not using:
        return
    captioner.eval()
    decoders = captioner.decoder.decoders
    totals = [one.bias.new_zeros(len(captioner.vocabulary), known) for one in decoders]
    for batch in batches(using, TrainingConfig(), captioner):
        grid = inputs.grid(batch.hashes).float()
        for decoder, total in zip(decoders, totals, strict=True):
            _count(decoder, grid, batch.words, total)
    for decoder, total in zip(decoders, totals, strict=True):
        _place(decoder, total)


def _count(decoder: RecurrentDecoder, grid: torch.Tensor, words: torch.Tensor, total: torch.Tensor) -> None:
    """Add to `total` (V, known), by the new word that stands there, the probabilities of known words."""
    known = total.shape[1]
    before, after = words[:, :, :-1], words[:, :, 1:]  # (B, K, T)
    with autocast(grid.device):
        states = decoder(grid, before).states[after >= known]  # (M, E)
        logits = decoder.logits(states)[:, :known].float()
    logits[:, [PAD, START, END, UNKNOWN]] = -torch.inf
    total.index_add_(0, after[after >= known], logits.softmax(dim=-1))


def _place(decoder: RecurrentDecoder, total: torch.Tensor) -> None:
    new = total.any(dim=1).nonzero().squeeze(1)  # (N,) of the new words those that a row uses
    shares, alike = total[new].topk(min(AVERAGED, total.shape[1]), dim=1)  # (N, AVERAGED)
    shares = shares / shares.sum(dim=1, keepdim=True)
    vectors = decoder.embedding.weight
    mean = (shares[:, :, None] * vectors[alike]).sum(dim=1)  # (N, E), shorter than the vectors it is the mean of
    length = (shares * vectors[alike].norm(dim=2)).sum(dim=1, keepdim=True)
    mean = mean * length / mean.norm(dim=1, keepdim=True).clamp(min=1e-6)
    vectors[new] = mean + torch.randn_like(mean) * vectors[: total.shape[1]].std() * NOISE
    decoder.bias[new] = (shares * decoder.bias[alike]).sum(dim=1)
