"""The convolutional part of each encoder: torchvision's without their classifiers, and a small one of our own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.errors import ConfigError

LAYERS_OF = {
    "vgg16": ("features",),
    "resnet18": ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
    "mobilenet_v2": ("features",),
    "mobilenet_v3_large": ("features",),
    "efficientnet_b0": ("features",),
    "efficientnet_v2_s": ("features",),
    "convnext_tiny": ("features",),
    "regnet_y_3_2gf": ("stem", "trunk_output"),
}
LAYERS_OF["resnet50"] = LAYERS_OF["resnet101"] = LAYERS_OF["resnet18"]
LEFT_OUT_OF_INCEPTION = {"AuxLogits", "avgpool", "dropout", "fc"}


class Body(nn.Module):
    """Some layers of a network one after the other, under the names that they have there."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, network.get_submodule(name))

    def forward(self, maps: torch.Tensor, first: int = 0, end: int | None = None, levels: int = 1) -> torch.Tensor:
        """The layers from number `first` to before `end`: images (B, 3, S, S) or maps to maps (B, C, H, W).

        With more `levels` than one the last maps of so many resolutions stand side by side in C, brought to the size of
        the smallest, each cell of each level normalised. ConfigError where there are not so many.
        """
        larger: list[torch.Tensor] = []
        for layer in self.layers()[first:end]:
            before, maps = maps, layer(maps)
            if levels > 1 and maps.shape[-1] < before.shape[-1]:
                larger.append(before)  # the first is the image itself
        if levels == 1:
            return maps
        if levels > len(larger):
            raise ConfigError(f"levels is {levels}, but the encoder has {len(larger)} resolutions.")
        return torch.cat([_normalised(level, maps.shape[-1]) for level in (*larger[1 - levels :], maps)], dim=1)

    def folded(self) -> Body:
        """A copy that gives the same maps with its batch normalisation folded into the convolutions before it.

        It is right only as long as the statistics stay as they are.
        """
        body = copy.deepcopy(self).eval()
        for module in list(body.modules()):
            # torchvision's networks call these one after the other where they hold them so; each is tested
            for (name, layer), (norm_name, norm) in pairwise(list(module.named_children())):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module.set_submodule(name, fuse_conv_bn_eval(layer, norm))
                    module.set_submodule(norm_name, nn.Identity())
        return body.to(memory_format=torch.channels_last)

    def layers(self) -> list[nn.Module]:
        """All that follows one another; a layer that only holds layers counts as those."""
        layers = list(self.children())
        if isinstance(layers[-1], nn.Sequential) and len(layers) <= 2:
            layers = [*layers[:-1], *layers[-1].children()]
        return layers

    def first_of(self, last_blocks: int) -> int:
        """The number of the layer at which the last so many blocks begin: a block is a layer with weights."""
        blocks = [number for number, layer in enumerate(self.layers()) if any(True for _ in layer.parameters())]
        return blocks[-min(last_blocks, len(blocks))]


class InceptionBody(Body):
    """Inception v3; its ImageNet weights were trained with colours scaled otherwise than all the others'."""

    def __init__(self, network: nn.Module) -> None:
        names = [name for name, _ in network.named_children() if name not in LEFT_OUT_OF_INCEPTION]
        super().__init__(network, names)
        self.scale: torch.Tensor
        self.offset: torch.Tensor
        # from the mean and deviation of ImageNet, a channel each, to 0.5 and 0.5
        self.register_buffer("scale", torch.tensor([0.229, 0.224, 0.225])[:, None, None] / 0.5, persistent=False)
        offset = (torch.tensor([0.485, 0.456, 0.406])[:, None, None] - 0.5) / 0.5
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, maps: torch.Tensor, first: int = 0, end: int | None = None, levels: int = 1) -> torch.Tensor:
        return super().forward(maps if first else maps * self.scale + self.offset, first, end, levels)


class SmallCnn(Body):
    """A CNN small enough to be trained from nothing in a minute on a CPU: a cell of its grid is 8x8 pixels."""

    def __init__(self, channels: int = 128) -> None:
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 24, 2), (24, 48, 2), (48, 96, 2), (96, channels, 1)):
            convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        super().__init__(nn.ModuleDict({"convolutions": nn.Sequential(*layers)}), ["convolutions"])

    def first_of(self, last_blocks: int) -> int:
        return max(0, len(self.layers()) - 3 * last_blocks)  # of convolution, norm and ReLU


def _normalised(maps: torch.Tensor, side: int) -> torch.Tensor:
    """Maps (B, C, H, W) as (B, C, side, side), every cell's vector with mean 0 and variance 1."""
    cells = F.adaptive_avg_pool2d(maps, side).movedim(1, -1)  # (B, side, side, C)
    return F.layer_norm(cells, cells.shape[-1:]).movedim(-1, 1)


def build(name: str) -> Body:
    """The body of the encoder `name`, with random weights."""
    if name == "small_cnn":
        return SmallCnn()
    import torchvision

    if name == "inception_v3":
        return InceptionBody(torchvision.models.inception_v3(weights=None, init_weights=False))
    network = torchvision.models.get_model(name, weights=None)
    if name == "vgg16":
        # Without its last pooling the grid has 14x14 cells, those of "Show, Attend and Tell".
        network.features = network.features[:-1]
    return Body(network, LAYERS_OF[name])
