"""What a captioner is: its encoder, its pixels, its decoder and how it decodes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from training.config.base import Config, choice, number

ARCHITECTURES = ("two_layer_attention", "show_attend_tell", "initial_state", "first_input", "every_step")
QUICK_BEAM = 5
LARGEST_SCALE = 4


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

    name: str = "mobilenet_v2"
    weights: str = "imagenet"
    trained: Literal["none", "all"] = choice("none", "all")
    feature_stages: int = number(1, least=1)
    views: tuple[tuple[float, bool], ...] = ((1.0, False),)

    def mistakes(self) -> list[str]:
        found = []
        if not self.name:
            found.append("name is empty, not that of a CNN")
        if not self.weights:
            found.append("weights is empty, not 'imagenet', 'none' or a file")
        if self.name == "small_cnn" and self.downloads:
            found.append(f"weights is {self.weights!r}, which small_cnn has none of: 'none' or a file is needed")
        if not self.views or not all(map(_is_view, self.views)):
            found.append(
                f"views is {self.views}, not one or more pairs of a scale above zero and at most {LARGEST_SCALE} "
                "and true or false"
            )
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

    side: int = number(224, least=32, most=1024)


@dataclass(frozen=True)
class DecoderConfig(Config):
    """The recurrent decoder: its sizes, its cells, and how it is given the image.

    The image enters through attention ("two_layer_attention", "show_attend_tell") or as one vector ("initial_state",
    "first_input", "every_step"). `heads` divides `hidden` and matters only with attention. An `ensemble` of more than
    one are decoders that are trained independently, their word probabilities averaged.
    """

    embedding: int = number(384, least=1)
    hidden: int = number(512, least=1)
    heads: int = number(4, least=1)
    architecture: str = choice(*ARCHITECTURES)
    cell: Literal["lstm", "gru"] = choice("lstm", "gru")
    ensemble: int = number(1, least=1, most=8)

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

    beam: int = number(5, least=1, most=64)
    length_penalty: float = number(0.9, least=0, most=4)
    max_length: int = number(24, least=1, most=200)
    neighbours: int = number(0, least=0, most=1000)
    top_p: float = number(0.0, least=0, most=1)
    temperature: float = number(1.0, above=0)
    seed: int = number(1, least=0)

    def quick(self) -> DecodingConfig:
        """The same with a narrow beam, which orders captioners as well as a wide one at a fraction of the cost."""
        return dataclasses.replace(self, beam=min(self.beam, QUICK_BEAM), neighbours=0)

    def signature(self) -> str:
        """What must be the same for two evaluations to be comparable."""
        if self.top_p:
            return f"top-p:{self.top_p:g}|temperature:{self.temperature:g}|seed:{self.seed}|max:{self.max_length}"
        search = f"beam:{self.beam}|penalty:{self.length_penalty:g}|max:{self.max_length}"
        return f"{search}|neighbours:{self.neighbours}" if self.neighbours else search


def _is_view(view: Any) -> bool:
    if not isinstance(view, tuple) or len(view) != 2:
        return False
    scale, mirrored = view
    return type(scale) in {int, float} and 0 < scale <= LARGEST_SCALE and type(mirrored) is bool
