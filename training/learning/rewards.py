"""Self-critical training (Rennie et al., 2017): the rewards of sampled captions, and the constants of the recipe.

The reward is CIDEr-D against the human captions of the image; each caption is compared with the mean of the image's
other samples. The figures behind the constants are those of Flickr8k in docs/captioner-trials.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from training.data.manifest import Row
from training.decoding.sampling import Samples
from training.metrics import CiderD
from training.vocabulary import MARKS, Vocabulary, tokenize

SAMPLES = 10
"""Captions sampled an image, by all decoders together: six gain less, twenty no more."""
TEMPERATURE = 0.5
"""Of the distribution that is sampled from and learned. With smoothed labels all improbable words together have a tenth
of the probability, so that at 1 most samples are spoilt by one of them."""
CROSS_ENTROPY_SHARE = 0.1
"""Share of the loss on human captions, which keeps captions from becoming short and bland."""
LEARNING_RATE = 3e-4
DROPOUT = 0.5
"""Of words and of the grid: with less of it the training images are soon overfitted."""
END_OF_CAPTION = "<end>"
"""A word of its own in the reward: without it captions learn to stop before their last noun."""


class Rewards:
    """Scores of captions of the training images, by their number among `rows`."""

    def __init__(self, rows: Sequence[Row], vocabulary: Vocabulary) -> None:
        self._numbers = {row.sha256: number for number, row in enumerate(rows)}
        self._vocabulary = vocabulary
        self._cider = CiderD([[(*tokenize(text), END_OF_CAPTION) for text in row.references] for row in rows])

    def of(self, hashes: Sequence[str], samples: Samples) -> torch.Tensor:
        """The rewards (B, K) of captions sampled for the images of these hashes; a human caption has about 1."""
        words = self._vocabulary.words
        captions = [
            (*(words[number] for number in tokens if words[number] not in MARKS), END_OF_CAPTION)
            for several in samples.tokens()
            for tokens in several
        ]
        shape = samples.log_probabilities.shape
        images = np.repeat([self._numbers[sha256] for sha256 in hashes], shape[1])
        rewards = np.asarray(self._cider.rewards(images.tolist(), captions))
        return torch.from_numpy(rewards).float().view(shape).to(samples.log_probabilities.device)


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """How much better each caption (B, K) is than the mean of its image's others (Luo, 2020)."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others
