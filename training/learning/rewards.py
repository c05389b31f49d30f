"""What a drawn caption is worth: CIDEr-D against the human captions of its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from training.data.manifest import Row
from training.decoding.sampling import Samples
from training.metrics import CiderD
from training.vocabulary import Vocabulary, tokenize

END_OF_CAPTION = "<end>"
"""A word of its own in the reward: without it captions learn to break off before their last noun."""


class Rewards:
    """Scores of captions of the training images, by their number among `rows`."""

    def __init__(self, rows: Sequence[Row], vocabulary: Vocabulary) -> None:
        self._numbers = {row.sha256: number for number, row in enumerate(rows)}
        self._vocabulary = vocabulary
        references = [[(*tokenize(text), END_OF_CAPTION) for text in row.references] for row in rows]
        self._cider = CiderD(references)

    def of(self, hashes: Sequence[str], drawn: Samples) -> torch.Tensor:
        """The rewards (B, K) of captions drawn for the images of these hashes; CIDEr-D is about 1 for a human's."""
        words = self._vocabulary.words
        captions = [
            (*(words[number] for number in tokens), END_OF_CAPTION) for several in drawn.tokens() for tokens in several
        ]
        shape = drawn.log_probabilities.shape
        images = np.repeat([self._numbers[sha256] for sha256 in hashes], shape[1])
        reward = self._cider.rewards(images.tolist(), captions)
        return torch.from_numpy(reward).float().view(shape).to(drawn.log_probabilities.device)


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """How much better each caption (B, K) is than the mean of its image's others (Luo, 2020)."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others
