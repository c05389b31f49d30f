"""Weights of an encoder, from a file or from torchvision."""

from __future__ import annotations

from pathlib import Path

import torch

from training.errors import WeightsError
from training.networks.encoder import Encoder


def load(encoder: Encoder) -> None:
    """Put in the weights that the encoder's config names.

    Raises WeightsError in one sentence when they cannot be had or do not fit.
    """
    name, weights = encoder.config.name, encoder.config.weights
    if weights == "none":
        return
    state = _download(name, weights) if encoder.config.downloads else _read(Path(weights), name)
    expected = set(encoder.body.state_dict())
    kept = {layer for layer, _ in encoder.body.named_children()}
    state = {key: value for key, value in state.items() if key.partition(".")[0] in kept}  # no classifier
    # old files lack the counts of batches; torch adds them
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    missing, surplus = sorted(needed - set(state)), sorted(set(state) - expected)
    if missing or surplus:
        wrong = f"{missing[0]} is missing" if missing else f"{surplus[0]} does not belong there"
        raise WeightsError(f"The weights {weights} are not those of {name}: {wrong}.")
    try:
        encoder.body.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"The weights {weights} are not those of {name}: {reason}") from error


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


def _download(name: str, weights_name: str) -> dict[str, torch.Tensor]:
    import torchvision

    known = torchvision.models.get_model_weights(name)
    member = "DEFAULT" if weights_name == "imagenet" else weights_name
    if member not in known.__members__:
        raise WeightsError(f"torchvision has no weights {weights_name} of {name}, but {', '.join(known.__members__)}.")
    try:
        weights = known[member]
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except Exception as error:  # urllib, ssl, socket, hash mismatch, disk: all mean that there are no weights
        raise WeightsError(
            f"The ImageNet weights of {name} could not be downloaded ({_first_line(error)}); "
            f"give a file with --encoder-weights FILE, or `none` to train the encoder from nothing."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
