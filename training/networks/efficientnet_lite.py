"""EfficientNet-Lite, as timm's `tf_efficientnet_lite0` to `2` compute it, under the same names of weights.

The starter's encoder is one of them. timm, and the torchvision that it imports, take longer to import than torch.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

WIDTHS_AND_DEPTHS = {
    "tf_efficientnet_lite0": (1.0, 1.0),
    "tf_efficientnet_lite1": (1.0, 1.1),
    "tf_efficientnet_lite2": (1.1, 1.2),
}
STEM, HEAD = 32, 1280
STAGES = ((1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320))
"""Blocks, kernel, stride and channels, before they are multiplied by depth and width."""
EXPANSION = 6
_EPS = 1e-3


class EfficientNetLite(nn.Module):
    """The maps (B, C, H, W) of its last `stages` resolutions. It has random weights until others are loaded."""

    def __init__(self, name: str, stages: int) -> None:
        super().__init__()
        self.stages = stages
        self.network = _Network(*WIDTHS_AND_DEPTHS[name])

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.network(images)[-self.stages :]
        return {str(number): each for number, each in enumerate(maps)}

    def widen(self) -> None:
        """See `_Conv.widen`. Nothing is done on other devices, which have kernels made for usual sizes."""
        for module in self.modules():
            if isinstance(module, _Conv) and module.weight.device.type == "cpu":
                module.widen()

    def shapes(self, side: int) -> list[tuple[int, ...]]:
        """Those of the maps of an image of `side` pixels; each stride rounds up, so that no image is too small."""
        return [(1, channels, *[math.ceil(side / stride)] * 2) for channels, stride in self.network.maps][
            -self.stages :
        ]


class _Network(nn.Module):
    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.conv_stem = _Conv(3, STEM, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(STEM, eps=_EPS)
        channels, stride, stages, self.maps = STEM, 2, [], []
        for number, (blocks, kernel, first, out) in enumerate(STAGES):
            if 0 < number < len(STAGES) - 1:
                blocks = math.ceil(blocks * depth)
            if first > 1:
                self.maps.append((channels, stride))
            layers: list[nn.Module] = []
            for block in range(blocks):
                made = _Expanded if number else _Separable
                layers.append(made(channels, _rounded(out * width), kernel, 1 if block else first))
                channels = _rounded(out * width)
            stages.append(nn.Sequential(*layers))
            stride *= first
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _Conv(channels, HEAD, 1)
        self.bn2 = nn.BatchNorm2d(HEAD, eps=_EPS)
        self.maps.append((HEAD, stride))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.weight.shape[0] * module.weight[0, 0].numel() // module.groups
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The last maps of each resolution, the smallest last."""
        maps = [F.relu6(self.bn1(self.conv_stem(images)), inplace=True)]
        for stage in self.blocks:
            maps.append(stage(maps[-1]))
        maps[-1] = F.relu6(self.bn2(self.conv_head(maps[-1])), inplace=True)
        return [each for each, later in pairwise(maps) if later.shape[-1] < each.shape[-1]] + maps[-1:]


class _Conv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow does: the right and the bottom by one more where it is odd."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(before, after, kernel, stride, padding, groups=groups, bias=False)
        self.register_buffer("wide", None, persistent=False)

    def widen(self) -> None:
        """For inference on a CPU: take the padding of a stride of two into the convolution instead of copying the maps.

        Maps of even sides are padded by one less at the left and top: there a kernel with a row and a column of zeros
        before it gives the same under equal padding, which maps of odd sides have anyway.
        """
        if self.stride[0] == 2:
            self.wide = F.pad(self.weight, (1, 0, 1, 0))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = maps.shape[-2:]
        if self.wide is not None and height % 2 == width % 2:
            weight = self.weight if height % 2 else self.wide
            return F.conv2d(maps, weight, self.bias, stride, kernel // 2, groups=self.groups)
        if stride > 1:
            height, width = (
                max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in maps.shape[-2:]
            )
            maps = F.pad(maps, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(maps)


class _Separable(nn.Module):
    """A convolution of each channel, then one of each cell."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.adds = stride == 1 and before == after
        self.conv_dw = _Conv(before, before, kernel, stride, groups=before)
        self.bn1 = nn.BatchNorm2d(before, eps=_EPS)
        self.conv_pw = _Conv(before, after, 1)
        self.bn2 = nn.BatchNorm2d(after, eps=_EPS)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found = F.relu6(self.bn1(self.conv_dw(maps)), inplace=True)
        found = self.bn2(self.conv_pw(found))
        return found + maps if self.adds else found


class _Expanded(nn.Module):
    """The same between more channels: an inverted residual."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.adds = stride == 1 and before == after
        within = before * EXPANSION
        self.conv_pw = _Conv(before, within, 1)
        self.bn1 = nn.BatchNorm2d(within, eps=_EPS)
        self.conv_dw = _Conv(within, within, kernel, stride, groups=within)
        self.bn2 = nn.BatchNorm2d(within, eps=_EPS)
        self.conv_pwl = _Conv(within, after, 1)
        self.bn3 = nn.BatchNorm2d(after, eps=_EPS)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found = F.relu6(self.bn1(self.conv_pw(maps)), inplace=True)
        found = F.relu6(self.bn2(self.conv_dw(found)), inplace=True)
        found = self.bn3(self.conv_pwl(found))
        return found + maps if self.adds else found


def _rounded(channels: float) -> int:
    """A multiple of eight near it, at least nine tenths of it."""
    multiple = max(8, int(channels + 4) // 8 * 8)
    return multiple + 8 if multiple < 0.9 * channels else multiple
