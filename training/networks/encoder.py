"""CNNs that turn an image into a grid of features; torchvision's without their classifiers.

"Show, Attend and Tell" (Xu et al., 2015) attends over such a grid instead of one vector an image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import cycle
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from training.config import EncoderConfig, TransformConfig
from training.errors import ConfigError
from training.networks import backbones

Looks = Literal["mean", "near", "far"]
"""Of what looks at an image a grid is made: "mean" of those at all scales from all sides, by which captions are said;
"near" of one at its own size as it is; "far" of one at the smallest other size, mirrored where the mean is of both
sides."""


class Encoder(nn.Module):
    """Images (B, 3, S, S) to grids (B, P, C), P the cells of the grid (1 where it is pooled) and C `channels`.

    Batch normalisation keeps the statistics it came with, for batches here are too small to estimate better ones; only
    an encoder that is trained from nothing (`from_nothing`) gathers them.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.from_nothing = False
        # C and H of maps by the side of images and levels: finding them takes as long as a draft
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._folded: tuple[list[tuple[int, int]], backbones.Body] | None = None
        self.body = backbones.build(config.name).to(memory_format=torch.channels_last)
        self.hold(False)
        self.channels = self._shape(64 if config.name == "small_cnn" else 128, None)[0]

    def forward(self, images: torch.Tensor, looks: Looks = "mean", side: int | None = None) -> torch.Tensor:
        """Grids of images at scales of `side`, which is their own if nothing else is said."""
        side = side or images.shape[-1]
        seen = self._seen(looks, side)
        resized = {size: _resized(images, size) for size in {size for size, _ in seen}}
        maps = [self._maps(resized[size], mirrored) for size, mirrored in seen]
        if any(size != side for size, _ in seen):
            _, cells = self._size(side)
            maps = [_resized(each.float(), cells) for each in maps]
        return self._grid(maps)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """What the layers that stay as they are make of images (B, 3, S, S): maps (B, C', H', W').

        For a `mirror_mean` those of the mirror images stand beside them in C'.
        """
        sides = [images.flip(3) if mirrored else images for mirrored in self._sides()]
        return torch.cat([self.body(side, 0, self.kept_layers) for side in sides], dim=1)

    def top(self, maps: torch.Tensor) -> torch.Tensor:
        """Grids (B, P, C) from the trunk's maps."""
        sides = [self.body(side, self.kept_layers) for side in maps.chunk(1 + self.config.mirror_mean, dim=1)]
        return self._grid([sides[0], *(side.flip(3) for side in sides[1:])])

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode and not self.frozen)
        if self.config.trained == "last":  # what is not trained is to be the same for every batch
            self.body.eval()
            for layer in self.body.layers()[self.kept_layers :]:
                layer.train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(mode and self.from_nothing and not self.frozen)
        return self

    def hold(self, held: bool) -> None:
        """Keep the encoder as it is for a while, whatever its config says is trained, or no longer."""
        self._held = held
        self.body.zero_grad()  # gradients that are left would count when the next stage clips its own
        self.body.requires_grad_(False)
        for layer in self.body.layers()[self.kept_layers :]:
            layer.requires_grad_(True)

    @property
    def looks(self) -> int:
        """Of how many looks at an image its mean is."""
        return len(self._seen("mean", 0))

    def pixels(self, looks: Looks, side: int) -> int:
        """How many it looks at for such a grid of an image of `side` pixels."""
        return sum(size**2 for size, _ in self._seen(looks, side))

    @property
    def alternates(self) -> bool:
        """Whether each of several sizes is looked at from one side only."""
        return self.config.alternate and len(self.config.scales) > 1

    @property
    def scaled(self) -> bool:
        """Whether images are looked at in other sizes than their own."""
        return self.config.scales != (1,)

    def largest(self, side: int) -> int:
        """The side that images need to have, for none of the scales of `side` to enlarge them: they are to show it what
        a photograph has at that size."""
        return round(side * max(1.0, *self.config.scales))

    @property
    def kept_layers(self) -> int:
        """How many layers of the body stay as they are."""
        if self.frozen:
            return len(self.body.layers())
        return self.body.first_of(self.config.last_blocks) if self.config.trained == "last" else 0

    @property
    def keeps(self) -> Literal["pixels", "maps", "grid"]:
        """What of an image is the same however long is trained: its grid, the trunk's maps, or nothing but pixels.

        Of several levels some may lie within the trunk, so that its last maps would not be enough, and those of other
        scales differ in size.
        """
        if self.frozen:
            return "grid"
        usual = self.config.levels == 1 and not self.scaled
        return "maps" if self.kept_layers and usual else "pixels"

    @property
    def frozen(self) -> bool:
        return self._held or self.config.trained == "none"

    def cells(self, side: int) -> int:
        """P for images of `side` pixels. Raises ConfigError where that is too small, at some scale."""
        channels, size = self._size(side)
        for scaled in self._sized(side):
            if self._size(scaled)[0] != channels:  # one of the levels is missing, and another stands for it
                raise _too_small(scaled, self.config.name)
        return 1 if self.config.pooled else size**2

    def maps_shape(self, side: int) -> tuple[int, int, int]:
        """C', H' and W' of the trunk's maps for images of `side` pixels."""
        channels, height, width = self._shape(side, self.kept_layers)
        return channels * (1 + self.config.mirror_mean), height, width

    def _seen(self, looks: Looks, side: int) -> list[tuple[int, bool]]:
        """The size of the image at each look, and whether it is mirrored."""
        sizes, sides = self._sized(side), self._sides()
        if looks == "near":
            return [(side, False)]
        if looks == "far":
            return [(min((size for size in sizes if size != side), default=side), sides[-1])]
        if self.alternates:
            return list(zip(sizes, cycle(sides), strict=False))
        return [(size, mirrored) for size in sizes for mirrored in sides]

    def _maps(self, images: torch.Tensor, mirrored: bool) -> torch.Tensor:
        """Maps (B, C, H, W) of images (B, 3, S, S), or of their mirror images, turned back."""
        body = self._unchanging() if self.config.trained == "none" else self.body
        maps = body(images.flip(3) if mirrored else images, levels=self.config.levels)
        return maps.flip(3) if mirrored else maps

    def _sized(self, side: int) -> list[int]:
        """The side at each scale."""
        return [round(side * scale) for scale in self.config.scales]

    def _unchanging(self) -> backbones.Body:
        """The body in its faster form, made anew when it was given other weights or another device."""
        tensors = (*self.body.parameters(), *self.body.buffers())
        weights = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._folded is None or self._folded[0] != weights:
            with torch.inference_mode(False), torch.no_grad():
                self._folded = weights, self.body.folded()
        return self._folded[1]

    def _sides(self) -> tuple[bool, ...]:
        """From which sides images are looked at: as they are, and for a `mirror_mean` mirrored."""
        return (False, True) if self.config.mirror_mean else (False,)

    def _grid(self, looks: Sequence[torch.Tensor]) -> torch.Tensor:
        """Grids (B, P, C), the mean of maps (B, C, H, W)."""
        maps = torch.stack(tuple(looks)).mean(dim=0) if len(looks) > 1 else looks[0]
        grid = maps.flatten(2).transpose(1, 2)  # (B, P, C)
        return grid.mean(dim=1, keepdim=True) if self.config.pooled else grid

    def _size(self, side: int) -> tuple[int, int]:
        """C, and H and W, of the maps of images of `side` pixels. Raises ConfigError where that is too small."""
        of = (side, self.config.levels)
        if of not in self._sizes:
            self._sizes[of] = self._shape(side, None)[:2]
        return self._sizes[of]

    def _shape(self, side: int, end: int | None) -> tuple[int, int, int]:
        """C, H and W after the layers before `end`, or of all levels, found without computing them."""
        tensors = (*self.body.named_parameters(), *self.body.named_buffers())
        weights = {name: value.to("meta") for name, value in tensors}
        mode = self.training
        images = torch.empty(1, 3, side, side, device="meta")
        try:
            levels = self.config.levels if end is None else 1
            maps = torch.func.functional_call(self.body.eval(), weights, (images, 0, end, levels))
        except RuntimeError as error:  # torch's own words for a layer that has nothing left to look at
            raise _too_small(side, self.config.name) from error
        finally:
            self.train(mode)
        _, channels, height, width = maps.shape
        return channels, height, width


def _too_small(side: int, name: str) -> ConfigError:
    return ConfigError(f"Images of {side}x{side} pixels are too small for {name}.")


def _resized(maps: torch.Tensor, side: int) -> torch.Tensor:
    """Images or maps (B, C, H, W) as (B, C, side, side)."""
    if maps.shape[-1] == side:
        return maps
    return F.interpolate(maps, size=(side, side), mode="bilinear", antialias=True)


def features_hash(encoder: Encoder, transform: TransformConfig) -> str:
    """SHA-256 of all that decides what is kept of an image: transform, architecture and weights as far as they stay."""
    kept = nn.ModuleList(encoder.body.layers()[: encoder.kept_layers])
    pooled = encoder.config.pooled and encoder.keeps == "grid"
    described = json.dumps([encoder.config.name, pooled, len(kept), transform.to_json()])
    if (more := (encoder.config.levels, encoder.config.mirror_mean)) != (1, False):
        described += str(more)
    if (scales := tuple(map(float, encoder.config.scales))) != (1.0,):
        described += f"{scales} of the largest"
        described += " in turn" if encoder.alternates else ""
    return hashlib.sha256((described + state_hash(kept)).encode()).hexdigest()


def state_hash(module: nn.Module) -> str:
    """SHA-256 of all weights, their names and order."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
