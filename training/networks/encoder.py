"""CNNs that turn an image into a grid of features.

"Show, Attend and Tell" (Xu et al., 2015) attends over such a grid instead of one vector an image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from training.config import EncoderConfig, TransformConfig
from training.config.encoders import described
from training.errors import ConfigError
from training.networks import backbones
from training.networks.engine import Engine, clearly_faster

Views = Literal["averaged", "full_scale", "small_mirrored"]
"""The views of an image that a grid is made of: "averaged" is the mean over all views of the config (test-time
augmentation), from which captions are generated; "full_scale" a single one of the image as it is; "small_mirrored" one
at the smallest other scale, mirrored where some view of the config is."""


class Encoder(nn.Module):
    """Images (B, 3, S, S) to grids (B, P, C), P the cells of the grid and C `channels`.

    Batch normalisation keeps the statistics it was loaded with, for batches here are too small to estimate better ones;
    only an encoder that is trained from scratch (`from_nothing`) updates them.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.from_nothing = False
        self._sizes: dict[int, tuple[int, int]] = {}  # finding them takes as long as a draft
        self._fused: tuple[list[tuple[int, int]], nn.Module] | None = None
        self._engines: dict[int, tuple[nn.Module, Engine]] = {}  # by side, with the fused backbone each was made of
        self.backbone = backbones.build(config.name, config.feature_stages).to(memory_format=torch.channels_last)
        self.freeze(False)
        network = described(config.name)
        self.mean, self.std = network.mean, network.std

    def forward(self, images: torch.Tensor, views: Views = "averaged", side: int | None = None) -> torch.Tensor:
        """Grids of images; scales are relative to `side`, by default the side of the images."""
        side = side or images.shape[-1]
        sizes = self._views(views, side)
        resized = {size: _resized(images, size) for size, _ in sizes}
        maps = [self._maps(resized[size], mirrored) for size, mirrored in sizes]
        if any(size != side for size, _ in sizes):
            _, cells = self._size(side)
            maps = [_resized(each.float(), cells) for each in maps]
        mean = torch.stack(maps).mean(dim=0) if len(maps) > 1 else maps[0]
        return mean.flatten(2).transpose(1, 2)  # (B, P, C)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode and not self.frozen)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(mode and self.from_nothing and not self.frozen)
        return self

    def freeze(self, frozen: bool) -> None:
        """Freeze the encoder for a while, whatever its config says, or undo that."""
        self._frozen = frozen
        self.backbone.zero_grad()  # otherwise left gradients would count when the next stage clips its own
        self.backbone.requires_grad_(not self.frozen)

    @property
    def channels(self) -> int:
        """C, of images of any size; finding a size takes a tenth of a second, so that one found before serves."""
        if not self._sizes:
            self._size(described(self.config.name).side)
        return next(iter(self._sizes.values()))[0]

    @property
    def frozen(self) -> bool:
        return self._frozen or self.config.trained == "none"

    @property
    def mirrors(self) -> bool:
        """Whether some view is mirrored."""
        return any(mirrored for _, mirrored in self.config.views)

    def pixels(self, views: Views, side: int) -> int:
        """How many pixels are encoded for such a grid of an image of `side` pixels."""
        return sum(size**2 for size, _ in self._views(views, side))

    def input_side(self, side: int) -> int:
        """The side at which images must be loaded so that no view of the scales of `side` enlarges them."""
        return round(side * max(1.0, *(scale for scale, _ in self.config.views)))

    def cells(self, side: int) -> int:
        """P for images of `side` pixels. Raises ConfigError where that is too small for one of the views."""
        for size, _ in self._views("averaged", side):
            self._size(size)
        return self._size(side)[1] ** 2

    def _views(self, views: Views, side: int) -> list[tuple[int, bool]]:
        """The side of the image in each view, and whether it is mirrored."""
        sizes = [(round(side * scale), mirrored) for scale, mirrored in self.config.views]
        if views == "full_scale":
            return [(side, False)]
        if views == "small_mirrored":
            return [(min((size for size, _ in sizes if size != side), default=side), self.mirrors)]
        return sizes

    def _maps(self, images: torch.Tensor, mirrored: bool) -> torch.Tensor:
        """Maps (B, C, H, W) of images (B, 3, S, S), or of their mirror images, mirrored back.

        Those of several feature stages are brought to the size of the last and stand side by side in C.
        """
        backbone = self._fused_backbone() if self.config.trained == "none" else self.backbone
        made_of, engine = self._engines.get(images.shape[-1], (None, None))
        encode = engine if engine and made_of is backbone else backbone
        stages = list(encode(images.flip(3) if mirrored else images).values())
        if len(stages) > 1:
            stages = [_normalised(each, stages[-1].shape[-1]) for each in stages]
        maps = torch.cat(stages, dim=1)
        return maps.flip(3) if mirrored else maps

    def accelerate(self, side: int, name: str, folder: Path, bfloat16: bool) -> None:
        """Encode with onnxruntime from now on where it is clearly faster; torch goes on until that is known.

        What is exported stays in `folder` under `name`.
        """
        backbone = self._fused_backbone()
        for size in {size for size, _ in self._views("averaged", side)}:
            engine = clearly_faster(backbone, size, folder / f"{name}-{size}.onnx", bfloat16)
            if engine:
                self._engines[size] = backbone, engine

    @property
    def is_accelerated(self) -> bool:
        """Whether onnxruntime encodes any of its views."""
        return bool(self._engines)

    def _fused_backbone(self) -> nn.Module:
        """The backbone with its batch normalisation fused into the convolutions, made anew for other weights."""
        tensors = (*self.backbone.parameters(), *self.backbone.buffers())
        weights = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._fused is None or self._fused[0] != weights:
            with torch.inference_mode(False), torch.no_grad():
                self._fused = weights, backbones.fused(self.backbone).to(memory_format=torch.channels_last)
        return self._fused[1]

    def _size(self, side: int) -> tuple[int, int]:
        """C, and H and W, of the maps of images of `side` pixels. Raises ConfigError where that is too small."""
        if side not in self._sizes:
            training = self.training
            try:
                shapes = backbones.map_shapes(self.backbone, side)
            except RuntimeError as error:  # torch's own words for a layer that has nothing left to convolve
                raise _too_small(side, self.config.name) from error
            finally:
                self.train(training)
            sizes = [shape[-1] for shape in shapes]
            if len(set(sizes)) < len(sizes):
                raise _too_small(side, self.config.name)
            self._sizes[side] = sum(shape[1] for shape in shapes), sizes[-1]
        return self._sizes[side]


def _too_small(side: int, name: str) -> ConfigError:
    return ConfigError(f"Images of {side}x{side} pixels are too small for {name}.")


def _resized(maps: torch.Tensor, side: int) -> torch.Tensor:
    """Images or maps (B, C, H, W) as (B, C, side, side)."""
    if maps.shape[-1] == side:
        return maps
    return F.interpolate(maps, size=(side, side), mode="bilinear", antialias=True)


def _normalised(maps: torch.Tensor, side: int) -> torch.Tensor:
    """Maps (B, C, H, W) as (B, C, side, side), the vector of every cell with mean 0 and variance 1."""
    cells = F.adaptive_avg_pool2d(maps, side).movedim(1, -1)  # (B, side, side, C)
    return F.layer_norm(cells, cells.shape[-1:]).movedim(-1, 1)


def features_hash(encoder: Encoder, transform: TransformConfig) -> str:
    """SHA-256 of all that decides the grid of an image: network, stages, views, transform and weights."""
    config = encoder.config
    views: Sequence[tuple[float, bool]] = [(float(scale), mirrored) for scale, mirrored in config.views]
    described = json.dumps([config.name, config.feature_stages, views, transform.to_json()])
    return hashlib.sha256((described + state_hash(encoder.backbone)).encode()).hexdigest()


def state_hash(module: nn.Module) -> str:
    """SHA-256 of all weights, their names and order."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
