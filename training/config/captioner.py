"""What a captioner is: its encoder, its pixels, its decoder and how it decodes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from training.config.base import Config, Count, Natural, Positive, Share

Architecture = Literal["two_layer_attention", "show_attend_tell", "initial_state", "first_input", "every_step"]
ARCHITECTURES = get_args(Architecture)
NUCLEUS = 0.9
"""Of sampled captions: with the unlikely words each would be wrong somewhere, whatever its image."""
QUICK_BEAM = 5
Scale = Annotated[float, Field(gt=0, le=4)]


@dataclass(frozen=True)
class EncoderConfig(Config):
    """The CNN: any of torchvision or timm that gives a grid of features, or "small_cnn". `weights` is "imagenet" (the
    library's default), the name of others of torchvision ("IMAGENET1K_V1"), "none", or the path of a state dict.

    `trained`: "none" keeps it frozen, so that its features can be cached; "all" trains it with the decoder. The maps of
    its last `feature_stages` resolutions stand side by side in its grid.

    `views` are pairs of a scale, relative to the transform's side, and whether the image is mirrored. The grids of all
    views are averaged (test-time augmentation) when captions are generated; a frozen encoder is trained on two views.
    The grid has the cells of the transform's side.
    """

    name: str = "tf_efficientnet_lite2"
    weights: str = "imagenet"
    trained: Literal["none", "all"] = "none"
    feature_stages: Count = 1
    views: tuple[tuple[Scale, bool], ...] = ((1.0, False),)

    def mistakes(self) -> list[str]:
        found = []
        if not self.name:
            found.append("name is empty, not that of a CNN")
        if not self.weights:
            found.append("weights is empty, not 'imagenet', 'none' or a file")
        if self.name == "small_cnn" and self.downloads:
            found.append(f"weights is {self.weights!r}, which small_cnn has none of: 'none' or a file is needed")
        if not self.views:
            found.append("views is empty")
        return found

    @property
    def downloads(self) -> bool:
        """Whether the weights are torchvision's, not a file's and not none."""
        return self.weights == "imagenet" or self.weights.startswith("IMAGENET1K_")

    def without_path(self) -> EncoderConfig:
        """The same, with a weights file reduced to its name: what a checkpoint may record."""
        if self.downloads or self.weights == "none":
            return self
        return dataclasses.replace(self, weights=Path(self.weights).name)


@dataclass(frozen=True)
class TransformConfig(Config):
    """How an image file becomes pixels: squashed to `side` x `side`, RGB."""

    side: Annotated[int, Field(ge=32, le=1024)] = 224


@dataclass(frozen=True)
class DecoderConfig(Config):
    """The recurrent decoder: its sizes, its cells, and how it is given the image.

    The image enters through attention ("two_layer_attention", "show_attend_tell") or as one vector ("initial_state",
    "first_input", "every_step"). `heads` divides `hidden` and matters only with attention. An `ensemble` of more than
    one are decoders that are trained independently, their word probabilities averaged.
    """

    embedding: Count = 384
    hidden: Count = 512
    heads: Count = 4
    architecture: Architecture = "two_layer_attention"
    cell: Literal["lstm", "gru"] = "lstm"
    ensemble: Annotated[int, Field(ge=1, le=8)] = 1

    def mistakes(self) -> list[str]:
        if self.heads > 0 and self.hidden % self.heads:
            return [f"hidden ({self.hidden}) is not a multiple of heads ({self.heads})"]
        return []


@dataclass(frozen=True)
class DecodingConfig(Config):
    """Beam search, greedy with a beam of 1, or with `top_p` above zero nucleus sampling (Holtzman et al., 2020).

    A hypothesis of n words scores log p / (n + 1) ** length_penalty; the 1 is its end token. With `neighbours` above
    zero the beam is reranked by similarity to the captions of that many most similar training images. `temperature` and
    `seed` are those of sampling, which ignores all of these.
    """

    beam: Annotated[int, Field(ge=1, le=64)] = 5
    length_penalty: Annotated[float, Field(ge=0, le=4)] = 0.9
    max_length: Annotated[int, Field(ge=1, le=200)] = 24
    neighbours: Annotated[int, Field(ge=0, le=1000)] = 0
    top_p: Share = 0.0
    temperature: Positive = 1.0
    seed: Natural = 1

    def quick(self) -> DecodingConfig:
        """The same with a narrow beam, which orders captioners as well as a wide one at a fraction of the cost."""
        return dataclasses.replace(self, beam=min(self.beam, QUICK_BEAM), neighbours=0)

    def sampling(self) -> DecodingConfig:
        """Captions as a sample of what might be said, whose disagreement tells how little is known of an image."""
        return dataclasses.replace(self, top_p=NUCLEUS, neighbours=0)

    def signature(self) -> str:
        """What must be the same for two evaluations to be comparable."""
        if self.top_p:
            return f"top-p:{self.top_p:g}|temperature:{self.temperature:g}|seed:{self.seed}|max:{self.max_length}"
        search = f"beam:{self.beam}|penalty:{self.length_penalty:g}|max:{self.max_length}"
        return f"{search}|neighbours:{self.neighbours}" if self.neighbours else search
