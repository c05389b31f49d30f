"""The convolutional part of each encoder: a CNN of torchvision or timm without its classifier, or a small one of ours.

A backbone maps images (B, 3, S, S) to its last maps (B, C, H, W) of each of some resolutions, the smallest last, as the
values of a dictionary.
"""

from __future__ import annotations

import copy
import threading
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_weights

from training.config.encoders import described, no_cnn
from training.errors import ConfigError
from training.networks.efficientnet_lite import WIDTHS_AND_DEPTHS, EfficientNetLite

CLASSIFIERS = {"classifier", "fc"}
POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout)
"""They add nothing to the maps before them, of which a pooled grid would have fewer cells."""
OPTIONS = {
    # both were trained with colours scaled in another way, which they do themselves
    "inception_v3": {"transform_input": True, "init_weights": False},
    "googlenet": {"transform_input": True, "init_weights": False},
}
_TRACING = threading.Lock()
"""Two traces at once would leave the calls of all modules to a tracer that has ended."""


class SmallCnn(nn.Module):
    """A CNN small enough to be trained from scratch in a minute on a CPU: a cell of its grid is 8x8 pixels."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 24, 2), (24, 48, 2), (48, 96, 2), (96, channels, 1)):
            convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.convolutions(images)


class TimmBackbone(nn.Module):
    """A CNN of timm. `options` are those of `timm.create_model`."""

    def __init__(self, name: str, stages: int, **options: Any) -> None:
        super().__init__()
        import timm

        self.stages = stages
        self.network = timm.create_model(name, num_classes=0, **options)
        if not hasattr(self.network, "forward_intermediates"):
            try:
                self.network = timm.create_model(name, features_only=True, **options)
            except (RuntimeError, AttributeError) as error:  # timm's words for a network that has none
                raise no_cnn(name) from error

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if hasattr(self.network, "forward_intermediates"):
            # the final maps have passed layers that follow the last stage, such as EfficientNet's head
            final, earlier = self.network.forward_intermediates(images)
            maps = [each for each in earlier if each.shape[-1] > final.shape[-1]] + [final]
        else:
            maps = self.network(images)
        return {str(number): each for number, each in enumerate(maps[-self.stages :])}


def build(name: str, stages: int = 1) -> nn.Module:
    """The backbone of the encoder `name` with random weights, for the maps of its last `stages` resolutions.

    Raises ConfigError for a name that is no CNN, or where it has fewer resolutions.
    """
    network = described(name)
    if name in WIDTHS_AND_DEPTHS:
        lite = EfficientNetLite(name, stages)
        _check_stages(stages, len(lite.network.maps))
        return lite
    if network.library == "timm":
        backbone = TimmBackbone(name, stages)
        _check(name, backbone)
        shapes = map_shapes(backbone, network.side)
        if any(len(shape) != 4 for shape in shapes):
            raise no_cnn(name)
        _check_stages(stages, len(shapes))
        return backbone
    import torchvision

    if network.library == "ours":
        whole: nn.Module = SmallCnn()
    else:
        whole = torchvision.models.get_model(name, weights=None, **OPTIONS.get(name, {}))
    _check(name, whole)
    nodes = _last_of_each_resolution(whole, network.side)
    _check_stages(stages, len(nodes))
    wanted = {node: str(number) for number, node in enumerate(nodes[-stages:])}
    return _extractor(whole, wanted)


def _extractor(network: nn.Module, wanted: dict[str, str]) -> nn.Module:
    """The network without what does not lead to these layers, whose maps it gives under these names."""
    from torchvision.models import feature_extraction

    usual: Any = feature_extraction.NodePathTracer
    with _TRACING:
        feature_extraction.NodePathTracer = _of_this_thread(usual)
        try:
            return feature_extraction.create_feature_extractor(network, wanted, suppress_diff_warning=True)
        finally:
            feature_extraction.NodePathTracer = usual


def _of_this_thread(usual: Any) -> Any:
    """A class of tracers that follow one thread: while one traces, torch.fx gives it the calls of all modules, those of
    captioners that draft in other threads too."""
    thread = threading.get_ident()

    class Tracer(usual):
        def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return forward(*args, **kwargs)
            return super().call_module(m, forward, args, kwargs)

        def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
            if threading.get_ident() != thread:
                return attr_val
            return super().getattr(attr, attr_val, parameter_proxy_cache)

    return Tracer


def fused(backbone: nn.Module) -> nn.Module:
    """A copy for inference with its batch normalisation fused into the convolutions, which saves a fifth of the time;
    the backbone itself where its layers are not known to follow each other in the order in which they are declared."""
    if isinstance(backbone, fx.GraphModule):
        traced = copy.deepcopy(backbone).eval()
        with _TRACING:
            graph = _of_this_thread(fx.Tracer)().trace(traced)
        return fuse(fx.GraphModule(traced, graph), inplace=True, no_trace=True)
    if (known := _normalisation(backbone)) is None:
        return backbone
    faster = copy.deepcopy(backbone).eval()
    for module in list(faster.modules()):
        before: nn.Module | None = None
        for name, layer in list(module.named_children()):
            if isinstance(before, nn.Conv2d) and isinstance(layer, known):
                mean, variance = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
                normalisation = mean, variance, layer.eps, layer.weight, layer.bias
                before.weight, before.bias = fuse_conv_bn_weights(before.weight, before.bias, *normalisation)
                after = [getattr(layer, part) for part in ("drop", "act") if hasattr(layer, part)]
                setattr(module, name, nn.Sequential(*after))
            before = layer
    if isinstance(faster, EfficientNetLite):
        faster.widen()
    return faster


def _normalisation(backbone: nn.Module) -> type[nn.BatchNorm2d] | None:
    """The class of what follows each convolution in an EfficientNet; None for another network."""
    if isinstance(backbone, EfficientNetLite):
        return nn.BatchNorm2d
    if isinstance(backbone, TimmBackbone) and type(backbone.network).__name__ == "EfficientNet":
        from timm.layers import BatchNormAct2d

        return BatchNormAct2d
    return None


def map_shapes(backbone: nn.Module, side: int) -> list[tuple[int, ...]]:
    """The shapes (B, C, H, W) of the maps of an image of `side` pixels, found without computing the maps.

    The backbone is left in evaluation mode. Raises RuntimeError where the image is too small.
    """
    if isinstance(backbone, EfficientNetLite):
        return backbone.eval().shapes(side)
    return [tuple(maps.shape) for maps in _without_computing(backbone, side).values()]


def _without_computing(network: nn.Module, side: int) -> Any:
    """The output for an image of `side` pixels, as tensors without values; the network is left in evaluation mode."""
    tensors = (*network.named_parameters(), *network.named_buffers())
    shapes = {name: value.to("meta") for name, value in tensors}
    return torch.func.functional_call(network.eval(), shapes, torch.empty(1, 3, side, side, device="meta"))


def _last_of_each_resolution(network: nn.Module, side: int) -> list[str]:
    """The names of the layers that give the last maps of each resolution, the smallest last."""
    layers: dict[str, nn.Module] = {}
    for name, child in network.named_children():
        if name not in CLASSIFIERS:
            nested = child.named_children() if isinstance(child, nn.Sequential) else [("", child)]
            layers |= {f"{name}.{number}".removesuffix("."): layer for number, layer in nested}
    last: dict[int, str] = {}  # by the side of its maps

    def record(name: str, layer: nn.Module, given: Any, maps: torch.Tensor) -> None:
        if maps.ndim == 4:
            last[maps.shape[-1]] = name

    hooks = [
        layer.register_forward_hook(partial(record, name))
        for name, layer in layers.items()
        if not isinstance(layer, POOLING)
    ]
    try:
        _without_computing(network, side)
    finally:
        for hook in hooks:
            hook.remove()
    return [last[size] for size in sorted(last, reverse=True)]


def _check(name: str, network: nn.Module) -> None:
    """Raises ConfigError for a transformer."""
    if any("Attention" in type(module).__name__ for module in network.modules()):
        raise no_cnn(name)


def _check_stages(asked: int, found: int) -> None:
    if asked > found:
        raise ConfigError(f"encoder.feature_stages is {asked}, but the encoder has {found} resolutions.")
