"""Rows of a manifest to batches of image hashes and padded word ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.config import TrainingConfig
from training.manifest import Row
from training.model import Captioner
from training.vocabulary import PAD


@dataclass(frozen=True)
class Batch:
    """Images by content hash, their captions as ids (B, K, T) padded with PAD, and a weight an image (B,)."""

    hashes: list[str]
    words: torch.Tensor
    weights: torch.Tensor

    def part(self, rank: int, size: int) -> Batch:
        """What the process `rank` of `size` works on; one that is left without images gets one that weighs nothing."""
        if size == 1:
            return self
        mine = list(range(rank, len(self.hashes), size))
        weights = self.weights[mine] if mine else torch.zeros_like(self.weights[:1])
        mine = mine or [0]
        return Batch([self.hashes[number] for number in mine], self.words[mine], weights)


def batches(
    rows: Sequence[Row],
    config: TrainingConfig,
    captioner: Captioner,
    chance: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """All rows once: in a new order, with some of their captions where `chance` is given, else as they come.

    A caption longer than the captioner may ever say is learned as far as that.
    """
    vocabulary, longest = captioner.vocabulary, captioner.decoding.max_length + 2
    order = chance.permutation(len(rows)) if chance else np.arange(len(rows))
    for first in range(0, len(rows), config.batch_size):
        chosen = [rows[number] for number in order[first : first + config.batch_size]]
        texts = [_some(row.references, config.captions_per_image, chance) for row in chosen]
        encoded = [[vocabulary.encode(text)[:longest] for text in several] for several in texts]
        most = max(len(several) for several in encoded)
        words = np.full((len(chosen), most, max(len(ids) for several in encoded for ids in several)), PAD)
        for image, several in enumerate(encoded):
            for number, ids in enumerate(several):
                words[image, number, : len(ids)] = ids
        weights = torch.tensor([row.weight for row in chosen], device=captioner.device)
        yield Batch([row.sha256 for row in chosen], torch.from_numpy(words).to(captioner.device), weights)


def _some(references: Sequence[str], most: int, chance: np.random.Generator | None) -> Sequence[str]:
    if chance is None or len(references) <= most:
        return references
    return [references[number] for number in chance.choice(len(references), most, replace=False)]
