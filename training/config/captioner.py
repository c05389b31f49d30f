"""What a captioner is: its encoder, its pixels, its decoder and how it decodes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.config.base import Config, choice, number

ENCODERS = (
    "mobilenet_v2",
    "small_cnn",
    "vgg16",
    "resnet18",
    "resnet50",
    "resnet101",
    "inception_v3",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "convnext_tiny",
    "regnet_y_3_2gf",
)
SIDES = {"small_cnn": 64, "inception_v3": 299, "efficientnet_v2_s": 384}
"""Pixels of the side of the images an encoder was made for, where it is not 224."""
ARCHITECTURES = ("two_layer_attention", "show_attend_tell", "initial_state", "first_input", "every_step")
QUICK_BEAM = 5
LARGEST_SCALE = 4
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EncoderConfig(Config):
    """The CNN: `weights` is "imagenet" (torchvision's best), the name of others of torchvision's ("IMAGENET1K_V1"),
    "none", or the path of a state dict.

    `trained`: "none" keeps it frozen (its features can be cached), "last" trains its last `last_blocks` blocks together
    with the decoder, "all" the whole of it. `pooled` reduces its grid to one vector an image, the mean of all cells.

    `levels`: maps of so many resolutions stand side by side in its grid, not only the last, smallest ones. With
    `mirror_mean` it is the mean of two, the image's and its mirror image's turned back, in which less is a matter of
    chance. For the same reason captions are said of the mean over all `scales`, shares of the transform's side; what
    a frozen encoder sees is learned from two looks alone. The grid has the cells of that side. With `alternate` a
    `mirror_mean` over several scales looks at each from one of the two sides only, in turn: half of the looks.
    """

    name: str = choice(*ENCODERS)
    weights: str = "imagenet"
    trained: Literal["none", "last", "all"] = choice("none", "last", "all")
    last_blocks: int = number(1, least=1)
    pooled: bool = False
    levels: int = number(1, least=1)
    mirror_mean: bool = False
    alternate: bool = False
    scales: tuple[float, ...] = (1.0,)

    def mistakes(self) -> list[str]:
        found = []
        if not self.weights:
            found.append("weights is empty, not 'imagenet', 'none' or a file")
        if self.name == "small_cnn" and self.downloads:
            found.append(f"weights is {self.weights!r}, which small_cnn has none of: 'none' or a file is needed")
        if not self.scales or not all(
            type(scale) in {int, float} and 0 < scale <= LARGEST_SCALE for scale in self.scales
        ):
            found.append(
                f"scales is {list(self.scales)}, not one or more numbers above zero and at most {LARGEST_SCALE}"
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
    """How an image file becomes pixels: squashed to `side` x `side`, RGB, normalised per channel."""

    side: int = number(224, least=32, most=1024)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def mistakes(self) -> list[str]:
        numbers = [*self.mean, *self.std]
        if not all(isinstance(value, int | float) for value in numbers) or (len(self.mean), len(self.std)) != (3, 3):
            return ["mean and std need three numbers each, std above zero"]
        return [] if min(self.std) > 0 else ["mean and std need three numbers each, std above zero"]


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
