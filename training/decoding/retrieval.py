"""The images a captioner has learned from: what people said of those most like an image votes on its caption.

A decoder foretells captions from what it has made of all images; what was said of the few nearest ones it does not look
up. Of the captions that its beam proposes the one is said that is likely, and near to those by CIDEr-D (Devlin et al.,
2015, "Exploring nearest neighbor approaches for image captioning"; of a captioner's own beam Mao et al., 2015).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from training.data.manifest import Row
from training.decoding.beam_search import Candidate
from training.decoding.rerank import by_votes, nearness, ngrams, padded
from training.errors import CheckpointError
from training.vocabulary import Vocabulary

MOST = 20_000
"""Images remembered, the latest ones: more take more memory than they are worth."""
MOST_CAPTIONS = 10
"""Captions remembered of an image, the first ones."""
ONE_OF = 20
"""Of so many images one votes at most: of few even the most alike have little in common."""
AT_ONCE = 4096  # images that are brought to full precision at once


@dataclass(frozen=True)
class RetrievalMemory:
    """N training images with their captions.

    `hashes` (N, 32) are the bytes of their contents' SHA-256, `features` (N, C) the means of their grids' cells in half
    precision, `captions` (N, A, L) word ids of at most A captions an image, padded with zeros.
    """

    hashes: torch.Tensor
    features: torch.Tensor
    captions: torch.Tensor

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def build(
        cls, rows: Sequence[Row], features: torch.Tensor, vocabulary: Vocabulary, longest: int
    ) -> RetrievalMemory:
        """The images of these rows, with `features` (N, C) of each; of its captions the first `longest` words."""
        said = [[vocabulary.encode(text)[1:-1][:longest] for text in row.references[:MOST_CAPTIONS]] for row in rows]
        most = max(map(len, said))
        flat = padded([tokens for several in said for tokens in (*several, *[[]] * (most - len(several)))])
        hashes = torch.tensor([list(bytes.fromhex(row.sha256)) for row in rows], dtype=torch.uint8)
        return cls(hashes, features.half().cpu(), torch.from_numpy(flat).view(len(rows), most, -1))._latest()

    def without(self, hashes: Collection[str]) -> RetrievalMemory:
        """These but for the images of such contents."""
        kept = torch.tensor([bytes(one).hex() not in hashes for one in self.hashes.numpy()], dtype=torch.bool)
        return RetrievalMemory(self.hashes[kept], self.features[kept], self.captions[kept])

    def updated(self, later: RetrievalMemory) -> RetrievalMemory:
        """These and later ones, which take the place of the same images' earlier ones."""
        earlier = self.without({bytes(one).hex() for one in later.hashes.numpy()})
        sizes = [max(each) for each in zip(earlier.captions.shape[1:], later.captions.shape[1:], strict=True)]
        captions = torch.zeros(len(earlier) + len(later), *sizes, dtype=torch.int32)
        for part, place in ((earlier.captions, captions), (later.captions, captions[len(earlier) :])):
            place[: len(part), : part.shape[1], : part.shape[2]] = part
        hashes, features = torch.cat([earlier.hashes, later.hashes]), torch.cat([earlier.features, later.features])
        return RetrievalMemory(hashes, features, captions)._latest()

    def ranked(
        self, grid: torch.Tensor, found: Sequence[Sequence[Candidate]], number: int, length_penalty: float
    ) -> list[list[Candidate]]:
        """The captions found for each image of `grid` (B, P, C), best first, after the votes of the `number` images
        most like it, fewer where few are known; each has as much of a say, however many its captions are."""
        number = min(number, len(self) // ONE_OF)
        if not number:
            return [list(several) for several in found]
        nearest = self._likeness(grid).topk(number, dim=1).indices.numpy()  # (B, number)
        captions = self.captions.numpy()
        return [
            by_votes(several, self._votes(several, captions[places]), length_penalty)
            for several, places in zip(found, nearest, strict=True)
        ]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it by name, as a checkpoint keeps it."""
        return {"hashes": self.hashes, "features": self.features, "captions": self.captions}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], channels: int, words: int) -> RetrievalMemory:
        """The inverse of `tensors`, for a captioner of so many channels and words. Raises CheckpointError."""
        wanted = {"hashes": (2, torch.uint8), "features": (2, torch.float16), "captions": (3, torch.int32)}
        if {name: (value.dim(), value.dtype) for name, value in tensors.items()} != wanted:
            raise CheckpointError("What it keeps of the images it has learned from is incomplete.")
        found = cls(**tensors)
        sizes = {len(value) for value in tensors.values()}
        whole = (
            len(sizes) == 1 and 0 not in sizes and found.hashes.shape[1] == 32 and found.features.shape[1] == channels
        )
        if not whole or not found.captions.any() or not 0 <= found.captions.min() <= found.captions.max() < words:
            raise CheckpointError("What it keeps of the images it has learned from is of another captioner.")
        found._weights, found._channels  # noqa: B018 made now, so that nobody waits for them with the first caption
        return found

    def __deepcopy__(self, memo: object) -> RetrievalMemory:
        return self  # nothing of it ever changes

    def _latest(self) -> RetrievalMemory:
        return RetrievalMemory(self.hashes[-MOST:], self.features[-MOST:], self.captions[-MOST:])

    def _votes(self, found: Sequence[Candidate], captions: np.ndarray) -> np.ndarray:
        """How near each of K captions is to those (N, A, L) of images, on average, from 0 to 1: (K,)."""
        near = nearness(padded([one.tokens for one in found]), captions.reshape(-1, captions.shape[2]), self._weigh)
        given = captions.any(axis=2)  # (N, A)
        means = near.reshape(len(found), *given.shape).sum(axis=2) / given.sum(axis=1).clip(min=1)  # (K, N)
        return np.asarray(means.mean(axis=1))

    def _likeness(self, grid: torch.Tensor) -> torch.Tensor:
        """Cosines (B, N) of what is features of images and of these, every channel brought to mean 0 and spread 1."""
        mean, spread, lengths = self._channels
        asked = (grid.float().mean(dim=1).cpu() - mean) / spread.square()  # (B, C), in place of both being divided
        products = torch.cat([asked @ part.float().T for part in self.features.split(AT_ONCE)], dim=1)  # (B, N)
        return (products - (asked @ mean)[:, None]) / lengths

    @cached_property
    def _channels(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of each channel (C,) the mean and the spread over these images, and each image's length (N,) by them."""
        features = self.features.float()  # a copy
        spread, mean = torch.std_mean(features, dim=0, correction=0)
        spread.clamp_(min=1e-6)
        return mean, spread, features.sub_(mean).div_(spread).norm(dim=1).clamp(min=1e-6)

    def _weigh(self, numbers: np.ndarray) -> np.ndarray:
        """Squares of the inverse document frequencies of n-grams, by their `ngrams`."""
        known, weights = self._weights
        places = np.searchsorted(known, numbers).clip(max=len(known) - 1)
        return np.where(known[places] == numbers, weights[places], np.log(len(self)) ** 2)

    @cached_property
    def _weights(self) -> tuple[np.ndarray, np.ndarray]:
        """The n-grams of all captions, in order, and what each weighs: the less, the more images it is said of."""
        flat = self.captions.view(-1, self.captions.shape[2]).numpy()
        once = []
        for numbers in ngrams(flat):
            of_image = np.sort(numbers.reshape(len(self), -1), axis=1)  # (N, A x L)
            first = np.diff(of_image, axis=1, prepend=np.uint64(0)) > 0  # zeros, which are none, stand before them
            once.append(of_image[first])
        known, images = np.unique(np.concatenate(once), return_counts=True)
        return known, np.log(len(self) / images) ** 2
