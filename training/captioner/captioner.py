"""The captioner: encoder, decoder, vocabulary and style in one module that turns image files into captions."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.data import transforms
from training.data.manifest import Row
from training.decoding.beam_search import Candidate, Hypothesis, beam_search
from training.decoding.constraints import constrained_search
from training.decoding.hints import Hint
from training.decoding.retrieval import RetrievalMemory
from training.decoding.reuse import Correction, FeatureSpace
from training.decoding.sampling import nucleus_sampling
from training.decoding.signals import Signals, length, rarity
from training.errors import DataError
from training.networks import decoder as decoders
from training.networks import engine
from training.networks.encoder import Encoder, Views, features_hash
from training.runtime import out_of_memory
from training.runtime.device import autocast, bfloat16_pays
from training.vocabulary import END, PAD, START, UNKNOWN, Style, Vocabulary, tokenize

BATCH = 32  # images a step when captioning
LARGE = 128  # sides of images from here on can be halved for a measurement
CPU_BATCH = 8  # images a CPU encodes at once: one thread takes a tenth less with 4, but two threads then wait more

T = TypeVar("T")


class Captioner(nn.Module):
    """A CNN and a recurrent decoder. It starts with random weights; `checkpoint.load` and `train` give it others."""

    def __init__(
        self,
        encoder: EncoderConfig,
        decoder: DecoderConfig,
        transform: TransformConfig,
        decoding: DecodingConfig,
        vocabulary: Vocabulary,
        style: Style,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.decoding = decoding
        self.vocabulary = vocabulary
        self.style = style
        self.retrieval: RetrievalMemory | None = None  # where its decoding reranks by neighbours
        self.encodes_in_bfloat16 = True  # what it encodes in, where the hardware has it
        self.encoder = Encoder(encoder)
        cells = self.encoder.cells(transform.side)
        self.decoder = decoders.build(decoder, len(vocabulary), self.encoder.channels, cells)

    @property
    def device(self) -> torch.device:
        return next(self.decoder.parameters()).device

    @cached_property
    def feature_space(self) -> FeatureSpace | None:
        """What pooled features of its encoder are compared by; None where the encoder is trained on, so that they would
        change with each version."""
        if self.encoder.config.trained != "none":
            return None
        channels = self.decoder.decoders[0].standardisation
        encoder = features_hash(self.encoder, self.transform)
        return FeatureSpace(encoder, channels.mean.cpu().numpy(), channels.spread.cpu().numpy())

    @property
    def side(self) -> int:
        """S of the images that it is given: enough for the largest view."""
        return self.encoder.input_side(self.transform.side)

    def warm_up(self) -> Captioner:
        """Itself, after what the first caption would wait for.

        The encoder's precision is then the faster one, measured on two small images.
        """
        side = self.transform.side
        small = side // 2 if side >= LARGE else side
        images = self._images(torch.zeros(2, small, small, 3, dtype=torch.uint8))
        with torch.inference_mode():
            self.encodes_in_bfloat16 = bfloat16_pays(self.device, lambda: self.encoder(images, "full_scale"))
            grid = self.encode(torch.zeros(1, self.side, self.side, 3, dtype=torch.uint8))
        self.generate(grid, dataclasses.replace(self.decoding, max_length=1))
        self.feature_space  # noqa: B018
        return self

    def accelerate(self, folder: Path) -> None:
        """Let onnxruntime encode on a CPU where it is installed, clearly faster than torch, and the encoder frozen.

        What it takes is kept in `folder`. That takes seconds, in which other threads may caption. Grids then differ in
        rounding, so that it is for captions and not for features to learn from.
        """
        versions = engine.versions()
        if self.device.type == "cpu" and versions and self.feature_space:
            name = hashlib.sha256(f"{self.feature_space.encoder} {versions}".encode()).hexdigest()[:32]
            self.encoder.accelerate(self.transform.side, name, folder, self.encodes_in_bfloat16)

    def encode(self, pixels: np.ndarray | torch.Tensor, views: Views = "averaged") -> torch.Tensor:
        """Images as bytes (B, S, S, 3) to grids (B, P, C).

        Where the hardware computes in bfloat16, a grid of full-scale views alone is of that type.
        """
        parts = torch.as_tensor(pixels).split(CPU_BATCH if self.device.type == "cpu" else BATCH)
        with autocast(self.device, self.encodes_in_bfloat16):
            return torch.cat([self.encoder(self._images(part), views, self.transform.side) for part in parts])

    def grids(self, inputs: torch.Tensor, shift: int = 0) -> torch.Tensor:
        """Grids (B, P, C) of what is cached of images: the grids themselves where the encoder is frozen, else pixels
        (B, S, S, 3), which are moved by up to `shift`."""
        if self.encoder.frozen:
            return inputs
        images = self._images(inputs)
        with autocast(self.device):
            return self.encoder(transforms.shift(images, shift) if shift else images, side=self.transform.side)

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        encoder = self.encoder
        return transforms.normalise(pixels.to(self.device), encoder.mean, encoder.std)  # (B, 3, S, S)

    def caption(
        self,
        images: Sequence[Path],
        decoding: DecodingConfig | None = None,
        retrieval: RetrievalMemory | None = None,
    ) -> list[Hypothesis | DataError]:
        """A caption for each image file, in order, as `hypotheses` gives it, or the DataError of one that cannot be
        read."""
        return list(self._of_images(images, lambda pixels: self.caption_pixels(pixels, decoding, retrieval)))

    def read(self, image: Path) -> np.ndarray:
        """The image file as pixels (S, S, 3) for `caption_pixels`. Raises DataError when it cannot be read."""
        return transforms.read(image, self.side, self.device)

    def caption_pixels(
        self,
        pixels: Sequence[np.ndarray],
        decoding: DecodingConfig | None = None,
        retrieval: RetrievalMemory | None = None,
    ) -> list[Hypothesis]:
        """As `caption`, of images that have been `read`."""
        with engine.ALONE:
            return self.hypotheses(self._grid(pixels), decoding, retrieval) if pixels else []

    def complete(self, pixels: Sequence[np.ndarray], hint: str) -> list[Hypothesis]:
        """A caption of each image that has been `read`, which begins so or has the words that the `hint` asks for."""
        asked = Hint.parse(hint)
        with engine.ALONE:
            return [self._completed(cells[None], asked) for cells in self._grid(pixels)] if pixels else []

    def _completed(self, grid: torch.Tensor, hint: Hint) -> Hypothesis:
        self.eval()
        first, phrases = hint.encode(self.vocabulary)
        grid, never = grid.to(self.device, torch.float32), (PAD, START, UNKNOWN)
        found = constrained_search(self.decoder, grid, self.decoding, first, phrases, start=START, end=END, never=never)
        text = hint.caption(found.tokens, found.places, self.vocabulary, self.style)
        return Hypothesis(text, found.score, (*first, *found.tokens), found.ranking_score)

    def caption_n_best(
        self,
        images: Sequence[transforms.Picture],
        number: int,
        decoding: DecodingConfig | None = None,
        retrieval: RetrievalMemory | None = None,
    ) -> Iterator[tuple[list[Hypothesis], torch.Tensor] | DataError]:
        """For each image, in order, up to `number` captions, best first, and its grid (P, C), or its DataError."""

        def caption(pixels: Sequence[np.ndarray]) -> Iterable[tuple[list[Hypothesis], torch.Tensor]]:
            grid = self._grid(pixels)
            return zip(self.generate_n_best(grid, number, decoding, retrieval), grid, strict=True)

        return self._of_images(images, caption)

    def _of_images(
        self, images: Sequence[transforms.Picture], caption: Callable[[Sequence[np.ndarray]], Iterable[T]]
    ) -> Iterator[T | DataError]:
        """What `caption` makes of the pixels of each image, in order, or its DataError."""
        loaded = transforms.load_all(images, self.side)
        while batch := list(islice(loaded, BATCH)):
            readable = [pixels for pixels in batch if isinstance(pixels, np.ndarray)]
            results = iter(caption(readable) if readable else ())
            for item in batch:
                yield item if isinstance(item, DataError) else next(results)

    def _grid(self, pixels: Sequence[np.ndarray]) -> torch.Tensor:
        """The grids (B, P, C) of images (S, S, 3)."""
        with torch.inference_mode():
            return torch.cat(out_of_memory.micro_batched(self.encode, np.stack(pixels)))

    def hypotheses(
        self, grid: torch.Tensor, decoding: DecodingConfig | None = None, retrieval: RetrievalMemory | None = None
    ) -> list[Hypothesis]:
        """A caption for each encoded image of `grid` (B, P, C) with its signals, and with its pooled feature where the
        encoder is frozen."""
        several = self._candidates(grid, 1, decoding, retrieval, signals=True)
        return [self._described(candidates, cells) for candidates, cells in zip(several, grid, strict=True)]

    def _described(self, candidates: Sequence[Candidate], grid: torch.Tensor) -> Hypothesis:
        """The best of these candidates with its signals, and with its image's pooled feature where it has one."""
        best, *others = candidates
        space = self.feature_space
        feature = pooled(grid) if space else None
        signals = Signals(
            log_probability=best.mean_log_probability,
            margin=best.ranking_score - others[0].ranking_score if others else math.nan,
            attention_entropy=best.attention_entropy,
            rarity=rarity(best.tokens),
            image_distance=space.distance(feature) if space and feature else math.nan,
            length=length(best.tokens),
        )
        return dataclasses.replace(self._hypothesis(best), feature=feature, signals=signals)

    def generate(self, grid: torch.Tensor, decoding: DecodingConfig | None = None) -> list[Hypothesis]:
        """A caption for each encoded image of `grid` (B, P, C), in the annotators' style."""
        return [captions[0] for captions in self.generate_n_best(grid, 1, decoding)]

    def generate_n_best(
        self,
        grid: torch.Tensor,
        number: int,
        decoding: DecodingConfig | None = None,
        retrieval: RetrievalMemory | None = None,
    ) -> list[list[Hypothesis]]:
        """Up to `number` captions for each encoded image of `grid` (B, P, C), best first, in the annotators' style.

        Where the decoding has neighbours they are reranked by `retrieval`, by default the captioner's own.
        Where the device's memory does not suffice for all at once they are micro-batched. Raises TrainingError where it
        does not suffice for one.
        """
        several = self._candidates(grid, number, decoding, retrieval)
        return [[self._hypothesis(one) for one in candidates[:number]] for candidates in several]

    def _candidates(
        self,
        grid: torch.Tensor,
        number: int,
        decoding: DecodingConfig | None,
        retrieval: RetrievalMemory | None,
        signals: bool = False,
    ) -> list[list[Candidate]]:
        """At least `number` candidates for each encoded image where there are so many, best first."""
        self.eval()
        decoding = decoding or self.decoding
        retrieval = (retrieval or self.retrieval) if decoding.neighbours else None
        grid, never = grid.to(self.device, torch.float32), (PAD, START, UNKNOWN)

        def search(part: torch.Tensor) -> list[list[Candidate]]:
            if decoding.top_p:
                return nucleus_sampling(self.decoder, part, decoding, never, number)
            keep = max(number, decoding.beam) if retrieval else number
            candidates = beam_search(
                self.decoder, part, decoding, start=START, end=END, never=never, keep=keep, signals=signals
            )
            if retrieval:
                candidates = retrieval.rerank(part, candidates, decoding.neighbours, decoding.length_penalty)
            return candidates

        return [several for part in out_of_memory.micro_batched(search, grid) for several in part]

    def _hypothesis(self, candidate: Candidate) -> Hypothesis:
        """The candidate in the annotators' style."""
        text = self.style.apply(self.vocabulary.decode(candidate.tokens))
        return Hypothesis(text, candidate.score, candidate.tokens, candidate.ranking_score)

    def retrieval_with(self, corrections: Sequence[Correction], features: np.ndarray) -> RetrievalMemory | None:
        """Its retrieval memory, where its decoding has neighbours, with these corrections and features (N, C)."""
        rows = [
            (Row(Path(), each.sha256, (each.caption,)), feature)
            for each, feature in zip(corrections, features, strict=True)
            if tokenize(each.caption)
        ]
        if not self.decoding.neighbours or not rows:
            return self.retrieval
        stacked = torch.from_numpy(np.stack([feature for _, feature in rows]))
        longest = self.decoding.max_length
        later = RetrievalMemory.build([row for row, _ in rows], stacked, self.vocabulary, longest)
        return (self.retrieval.updated(later) if self.retrieval else later).prepared()

    def extend_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Take an extension of the present vocabulary; the weights of known words stay."""
        self.vocabulary = vocabulary
        self.decoder.grow(len(vocabulary))


def pooled(grid: torch.Tensor) -> bytes:
    """The pooled feature of a grid (P, C), the mean of its cells: (C,) in half precision, as bytes."""
    return grid.float().mean(dim=0).half().cpu().numpy().tobytes()
