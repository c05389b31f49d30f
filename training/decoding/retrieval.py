"""Retrieval: a beam is reranked by similarity to the captions of the most similar training images.

Devlin et al. (2015, "Exploring nearest neighbor approaches for image captioning") give an image a caption of similar
ones; Mao et al. (2015) rerank a captioner's beam that way. The similarity of two captions is CIDEr-D.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from training.data.manifest import Row
from training.decoding.beam_search import Candidate
from training.errors import CheckpointError
from training.metrics.cider_score import NgramWeights, References
from training.metrics.ngrams import Ngrams, occurrences
from training.vocabulary import Vocabulary

MAX_IMAGES = 20_000
"""Images kept, the latest ones: more take more memory than they are worth."""
MAX_CAPTIONS = 10
"""Captions kept of an image, the first ones."""
SIMILARITY_WEIGHT = 10.0
"""What a similarity, from 0 to 1, counts beside a score of the beam search, which is a log probability."""
IMAGES_PER_NEIGHBOUR = 20
"""Images there must be for each neighbour: among few images even the most similar ones have little in common."""
CHUNK = 4096
"""Images whose features are converted to full precision at once."""


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
        cls, rows: Sequence[Row], features: torch.Tensor, vocabulary: Vocabulary, max_length: int
    ) -> RetrievalMemory:
        """The images of these rows, with `features` (N, C); captions are cut after `max_length` words."""
        encoded = [
            [vocabulary.encode(text)[1:-1][:max_length] for text in row.references[:MAX_CAPTIONS]] for row in rows
        ]
        longest = max(len(words) for several in encoded for words in several)
        captions = np.zeros((len(rows), max(map(len, encoded)), longest), dtype=np.int32)
        for place, several in zip(captions, encoded, strict=True):
            for number, words in enumerate(several):
                place[number, : len(words)] = words
        hashes = torch.tensor([list(bytes.fromhex(row.sha256)) for row in rows], dtype=torch.uint8)
        return cls(hashes, features.half().cpu(), torch.from_numpy(captions))._latest()

    def without(self, hashes: Collection[str]) -> RetrievalMemory:
        """All images but those whose contents have these hashes."""
        kept = torch.tensor([bytes(one).hex() not in hashes for one in self.hashes.numpy()], dtype=torch.bool)
        return RetrievalMemory(self.hashes[kept], self.features[kept], self.captions[kept])

    def updated(self, later: RetrievalMemory) -> RetrievalMemory:
        """These images and later ones, which replace earlier entries of the same images."""
        earlier = self.without({bytes(one).hex() for one in later.hashes.numpy()})
        sizes = [max(each) for each in zip(earlier.captions.shape[1:], later.captions.shape[1:], strict=True)]
        captions = torch.zeros(len(earlier) + len(later), *sizes, dtype=torch.int32)
        for part, place in ((earlier.captions, captions), (later.captions, captions[len(earlier) :])):
            place[: len(part), : part.shape[1], : part.shape[2]] = part
        hashes, features = torch.cat([earlier.hashes, later.hashes]), torch.cat([earlier.features, later.features])
        return RetrievalMemory(hashes, features, captions)._latest()

    def rerank(
        self, grid: torch.Tensor, candidates: Sequence[Sequence[Candidate]], neighbours: int, length_penalty: float
    ) -> list[list[Candidate]]:
        """The candidates of each image of `grid` (B, P, C), best first, reranked by its `neighbours` nearest images.

        There are fewer neighbours where the memory is small. Each counts alike, however many captions it has.
        """
        neighbours = min(neighbours, len(self) // IMAGES_PER_NEIGHBOUR)
        if not neighbours:
            return [list(several) for several in candidates]
        nearest = self._image_similarity(grid).topk(neighbours, dim=1).indices  # (B, neighbours)
        similarities = self._caption_similarity(candidates, self.captions[nearest].numpy())
        return [
            rerank(several, similarity, length_penalty)
            for several, similarity in zip(candidates, similarities, strict=True)
        ]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it by name, as a checkpoint keeps it."""
        return {"hashes": self.hashes, "features": self.features, "captions": self.captions}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], channels: int, words: int) -> RetrievalMemory:
        """The inverse of `tensors` for a captioner with this many channels and words. Raises CheckpointError."""
        wanted = {"hashes": (2, torch.uint8), "features": (2, torch.float16), "captions": (3, torch.int32)}
        if {name: (value.dim(), value.dtype) for name, value in tensors.items()} != wanted:
            raise CheckpointError("Its index of training images is incomplete.")
        memory = cls(**tensors)
        sizes = {len(value) for value in tensors.values()}
        shapes = len(sizes) == 1 and 0 not in sizes and (memory.hashes.shape[1], memory.features.shape[1])
        captions = memory.captions
        if shapes != (32, channels) or not captions.any() or not 0 <= captions.min() <= captions.max() < words:
            raise CheckpointError("Its index of training images is of another captioner.")
        return memory.prepared()

    def prepared(self) -> RetrievalMemory:
        """Itself, with what is computed of it once, so that the first caption does not wait for it."""
        self._weights, self._channels  # noqa: B018
        return self

    def __deepcopy__(self, memo: object) -> RetrievalMemory:
        return self  # never modified, so copies can share it

    def _latest(self) -> RetrievalMemory:
        return RetrievalMemory(self.hashes[-MAX_IMAGES:], self.features[-MAX_IMAGES:], self.captions[-MAX_IMAGES:])

    def _caption_similarity(self, candidates: Sequence[Sequence[Candidate]], captions: np.ndarray) -> list[np.ndarray]:
        """How similar each image's candidates are to its neighbours' captions (B, N, A, L), from 0 to 1: (K,) each."""
        counts = [len(several) for several in candidates]
        tokens = [one.tokens for several in candidates for one in several]
        proposed = Ngrams.count(
            np.array([word for caption in tokens for word in caption], dtype=np.int64),
            np.array([len(caption) for caption in tokens], dtype=np.int64),
            np.repeat(np.arange(len(counts)), counts),
        )
        given = np.any(captions, axis=3)  # (B, N, A)
        share = given / given.sum(axis=2, keepdims=True).clip(min=1) / captions.shape[1]
        image = np.arange(len(counts)).repeat(given[0].size)
        references = References(Ngrams.count(*_flat(captions), image), share.ravel(), self._weights)
        return np.split(references.similarity(proposed), np.cumsum(counts)[:-1])

    def _image_similarity(self, grid: torch.Tensor) -> torch.Tensor:
        """Cosines (B, N) of the pooled grids with the features, after each channel was standardised."""
        mean, spread, lengths = self._channels
        pooled = (grid.float().mean(dim=1).cpu() - mean) / spread.square()  # (B, C), in place of dividing both sides
        products = torch.cat([pooled @ part.float().T for part in self.features.split(CHUNK)], dim=1)  # (B, N)
        return (products - (pooled @ mean)[:, None]) / lengths

    @cached_property
    def _channels(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each channel (C,), and the length (N,) of each standardised feature."""
        features = self.features.float()  # a copy
        spread, mean = torch.std_mean(features, dim=0, correction=0)
        spread.clamp_(min=1e-6)
        return mean, spread, features.sub_(mean).div_(spread).norm(dim=1).clamp(min=1e-6)

    @cached_property
    def _weights(self) -> NgramWeights:
        tokens, length = _flat(self.captions.numpy())
        caption, _, number = occurrences(tokens, length)
        return NgramWeights(number, caption // self.captions.shape[1], len(self))


def rerank(candidates: Sequence[Candidate], similarity: np.ndarray, length_penalty: float) -> list[Candidate]:
    """The candidates, best first by their scores in the beam search and their `similarity` (K,) to other captions."""
    scores = [
        SIMILARITY_WEIGHT * similar + one.mean_log_probability * (len(one.tokens) + 1) ** (1 - length_penalty)
        for one, similar in zip(candidates, similarity, strict=True)
    ]
    order = np.argsort(-np.array(scores), kind="stable")
    return [replace(candidates[number], ranking_score=float(scores[number])) for number in order]


def _flat(captions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The words (T,) of captions (..., L), zeros after their last word, and the length of each caption."""
    return captions[captions > 0], np.count_nonzero(captions, axis=-1).ravel()
