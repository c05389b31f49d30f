"""What earlier releases wrote into checkpoints under other names: the one table of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

from training.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

OPTIONS = {
    "encoder": {"levels": "feature_stages"},
    "decoder": {"form": "architecture", "members": "ensemble"},
}
"""By part of config.json the options that are called otherwise today."""

VALUES = {("decoder", "architecture", "between"): "two_layer_attention"}

LEFT: dict[str, dict[str, tuple[Any, ...]]] = {
    "encoder": {"pooled": (False,), "last_blocks": ()},
    "decoder": {"tied": (True,), "standardised": (), "attention": (), "layers": ()},
    "transform": {"mean": (), "std": ()},
    "decoding": {"consensus": (False,), "min_length": (1,), "no_repeat": (0,)},
}
"""By part of config.json the options that no longer exist, with the values that can still be loaded (none: all)."""

WEIGHTS = {
    r"^encoder\.body\.": "encoder.backbone.",
    r"^decoder\.seats\.": "decoder.ensemble.",
    r"\.places$": ".positional_embedding",
    r"\.attention\.keys_values\.": ".attention.key_value.",
    r"^neighbours\.seen$": "retrieval.features",
    r"^neighbours\.": "retrieval.",
}
"""Beginnings, parts and ends of tensors' names that are different today."""

RETRIEVAL = "neighbours."
"""How the names of the retrieval memory began."""

PIXELS = {"small_cnn": ([0.5] * 3, [0.25] * 3)}
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
"""Mean and standard deviation by which colours were normalised, of one encoder and of the others."""


def config(values: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of format 2 under today's names. Raises CheckpointError for a feature that left."""
    parts = {name: dict(part) if isinstance(part, Mapping) else part for name, part in values.items()}
    if not all(isinstance(parts.get(name), dict) for name in LEFT):
        return parts  # what is wrong with it is told as for any other
    encoder, decoder, transform = parts["encoder"], parts["decoder"], parts["transform"]
    attention = {"between": "dot", "show_attend_tell": "additive"}.get(decoder.get("form", "between"))
    refused = {
        "encoder.trained": encoder.get("trained") == "last",
        "decoder.form": decoder.get("form") == "top_down",
        "decoder.attention": attention is not None and decoder.get("attention", "dot") != attention,
        "decoder.layers": attention is None and decoder.get("layers", 2) != 2,
        "transform.mean": _normalises(transform) not in ((None, None), PIXELS.get(str(encoder.get("name")), IMAGENET)),
    }
    for part, options in LEFT.items():
        for name, harmless in options.items():
            refused[f"{part}.{name}"] = refused.get(f"{part}.{name}", False) or bool(
                harmless and parts[part].get(name, harmless[0]) not in harmless
            )
    for option, is_used in refused.items():
        if is_used:
            part, _, name = option.partition(".")
            raise CheckpointError(f"it has {option} {parts[part].get(name)!r}, which this version no longer has.")
    encoder["views"] = _views(encoder)
    for part, options in LEFT.items():
        for name in options:
            parts[part].pop(name, None)
    for part, names in OPTIONS.items():
        parts[part] = {names.get(name, name): value for name, value in parts[part].items()}
    for (part, name, value), today in VALUES.items():
        if parts[part].get(name) == value:
            parts[part][name] = today
    return parts


def weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of format 2 under today's names."""
    import torch

    found = {}
    for name, value in tensors.items():
        for pattern, today in WEIGHTS.items():
            name = re.sub(pattern, today, name)
        found[name] = value
    for name in [name for name in found if name.endswith("grid.0.weight")]:
        channels, buffers = found[name].shape[1], name.removesuffix("grid.0.weight") + "standardisation."
        found.setdefault(f"{buffers}mean", torch.zeros(channels))
        found.setdefault(f"{buffers}spread", torch.ones(channels))
        found.setdefault(f"{buffers}measured", torch.tensor(True))
    return found


def _views(encoder: dict[str, Any]) -> list[tuple[float, bool]]:
    """The views that three options described."""
    scales, mirror = encoder.pop("scales", [1.0]), encoder.pop("mirror_mean", False)
    alternate = encoder.pop("alternate", False)
    sides = (False, True) if mirror else (False,)
    if alternate and len(scales) > 1:
        return list(zip(scales, cycle(sides), strict=False))
    return [(scale, mirrored) for scale in scales for mirrored in sides]


def _normalises(transform: dict[str, Any]) -> tuple[Any, Any]:
    return transform.get("mean"), transform.get("std")
