"""CNNs that turn an image into a grid of features; torchvision's without their classifiers.

"Show, Attend and Tell" (Xu et al., 2015) attends over such a grid instead of one vector an image.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from training.config import EncoderConfig, TransformConfig
from training.errors import WeightsError

CLASSIFIERS = {"mobilenet_v2": "classifier.", "resnet50": "fc."}


class Encoder(nn.Module):
    """Images (B, 3, S, S) to grids (B, P, C), P the cells of the grid and C `channels`.

    Batch normalisation keeps the statistics it came with, for batches here are too small to estimate better ones; only
    an encoder that is trained from nothing (`from_nothing`) gathers them.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.from_nothing = False
        self.body, self.channels = _BODIES[config.name]()
        self.body.to(memory_format=torch.channels_last)
        self.body.requires_grad_(config.trained == "all")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images)  # (B, C, H, W)
        return maps.flatten(2).transpose(1, 2)  # (B, P, C)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(mode and self.from_nothing)
        return self

    @property
    def frozen(self) -> bool:
        return self.config.trained == "none"

    def cells(self, side: int) -> int:
        """P for images of `side` pixels."""
        stride = 8 if self.config.name == "small_cnn" else 32
        return (-(-side // stride)) ** 2


def load_weights(encoder: Encoder) -> None:
    """Put in the weights that the encoder's config names.

    Raises WeightsError in one sentence when they cannot be had or do not fit.
    """
    name, weights = encoder.config.name, encoder.config.weights
    if weights == "none":
        return
    state = _download(name) if weights == "imagenet" else _read(Path(weights), name)
    classifier = CLASSIFIERS.get(name)
    if classifier:
        state = {key: value for key, value in state.items() if not key.startswith(classifier)}
    expected = _state_names(encoder)
    missing, surplus = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    if missing or surplus:
        wrong = f"{missing[0]} is missing" if missing else f"{surplus[0]} does not belong there"
        raise WeightsError(f"The weights {weights} are not those of {name}: {wrong}.")
    try:
        encoder.body.load_state_dict({expected[key]: value for key, value in state.items()}, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"The weights {weights} are not those of {name}: {reason}") from error


def features_hash(encoder: Encoder, transform: TransformConfig) -> str:
    """SHA-256 of all that decides the features of an image: architecture, weights and transform."""
    digest = hashlib.sha256(json.dumps([encoder.config.name, transform.to_json()]).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path, name: str) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path} with weights for {name}.") from error
    except Exception as error:  # torch.load raises what the damaged bytes happen to cause
        raise WeightsError(f"The file {path} cannot be read as weights of {name}: {_first_line(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"The file {path} holds no state dict of {name}: a mapping of names to tensors is needed.")
    return state


def _download(name: str) -> dict[str, torch.Tensor]:
    import torchvision

    try:
        weights = torchvision.models.get_model_weights(name).DEFAULT
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except Exception as error:  # urllib, ssl, socket, hash mismatch, disk: all mean that there are no weights
        raise WeightsError(
            f"The ImageNet weights of {name} could not be downloaded ({_first_line(error)}); "
            f"give a file with --encoder-weights FILE, or `none` to train the encoder from nothing."
        ) from error


def _state_names(encoder: Encoder) -> dict[str, str]:
    """torchvision's parameter names → those of `encoder.body`."""
    names = list(encoder.body.state_dict())
    if encoder.config.name == "mobilenet_v2":
        return {f"features.{name}": name for name in names}
    return {name: name for name in names}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _mobilenet_v2() -> tuple[nn.Module, int]:
    import torchvision

    return torchvision.models.mobilenet_v2(weights=None).features, 1280


def _resnet50() -> tuple[nn.Module, int]:
    import torchvision

    network = torchvision.models.resnet50(weights=None)
    return ResNetBody(network), 2048


class ResNetBody(nn.Module):
    """A torchvision ResNet up to its last grid, its parameters under torchvision's names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, module in network.named_children():
            if name not in {"avgpool", "fc"}:
                self.add_module(name, module)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for module in self.children():
            images = module(images)
        return images  # (B, C, H, W)


class SmallCnn(nn.Module):
    """A CNN small enough to be trained from nothing in a minute on a CPU: a cell of its grid is 8x8 pixels."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 24, 2), (24, 48, 2), (48, 96, 2), (96, channels, 1)):
            convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)  # (B, C, S/8, S/8)


def _small_cnn() -> tuple[nn.Module, int]:
    return SmallCnn(), 128


_BODIES = {"small_cnn": _small_cnn, "mobilenet_v2": _mobilenet_v2, "resnet50": _resnet50}
