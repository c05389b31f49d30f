"""Turns rows of a manifest into batches of image hashes and padded word ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.data.manifest import Row
from training.features.features import MIRRORED
from training.vocabulary import PAD, tokenize

SIDED = set("left right links rechts gauche droite izquierda derecha esquerda direita sinistra destra".split())  # noqa: SIM905
"""Words for left and right in several languages. A caption with one of them is wrong for the mirror image."""
SIDED_ANYWHERE = ("左", "右", "ซ้าย", "ขวา", "يسار", "يمين", "שמאל", "ימין", "слева", "справа")
"""The same of languages that write words together, or put others before and behind them."""


@dataclass(frozen=True)
class Batch:
    """Images by content hash, their captions as ids (B, K, T) padded with PAD, one weight per image (B,), and the keys
    under which the cache holds the images or their mirror images."""

    hashes: list[str]
    words: torch.Tensor
    weights: torch.Tensor
    keys: list[str]

    def part(self, rank: int, size: int) -> Batch:
        """The share of the process `rank` of `size`; a process without images gets one of weight zero."""
        if size == 1:
            return self
        mine = list(range(rank, len(self.hashes), size))
        weights = self.weights[mine] if mine else torch.zeros_like(self.weights[:1])
        mine = mine or [0]
        hashes, keys = ([names[number] for number in mine] for names in (self.hashes, self.keys))
        return Batch(hashes, self.words[mine], weights, keys)


def batches(
    rows: Sequence[Row],
    config: TrainingConfig,
    captioner: Captioner,
    chance: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """Batches of all rows. With `chance` the order is random and each image gets `captions_per_image` random captions;
    without it rows keep their order and all their captions.

    With `chance` and `augmented` half of the images are mirrored, except those with a caption that says left or right.
    Captions are cut to the greatest length that the captioner generates.
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
        hashes = [row.sha256 for row in chosen]
        keys = [_key(row, chance) for row in chosen] if chance and config.augmented else hashes
        yield Batch(hashes, torch.from_numpy(words).to(captioner.device), weights, keys)


def _some(references: Sequence[str], most: int, chance: np.random.Generator | None) -> Sequence[str]:
    if chance is None or len(references) <= most:
        return references
    return [references[number] for number in chance.choice(len(references), most, replace=False)]


def _key(row: Row, chance: np.random.Generator) -> str:
    """The key of the image or of its mirror image; always of the image if a caption says left or right."""
    mirrored = chance.random() < 0.5 and not any(map(_is_sided, row.references))
    return row.sha256 + MIRRORED if mirrored else row.sha256


def _is_sided(text: str) -> bool:
    small = text.lower()
    return bool(SIDED.intersection(tokenize(text))) or any(word in small for word in SIDED_ANYWHERE)
