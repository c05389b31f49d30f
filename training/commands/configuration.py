"""A TrainingConfig from a file, options and single values; of these the later ones take precedence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.config import EncoderConfig, TrainingConfig
from training.data import manifest
from training.data.datasets.files import read_json
from training.data.manifest import Row
from training.errors import ConfigError

Values = dict[str, Any]
"""Some values of a TrainingConfig, nested as it is."""


def from_file(path: Path) -> Values:
    """The values in a JSON file. Raises DataError, or ConfigError for what is unknown or of a wrong type."""
    return _checked(read_json(path), str(path))


def from_setting(text: str) -> Values:
    """The one value of `decoder.hidden=1024`: JSON, else a text. Raises ConfigError as `from_file`."""
    path, equals, written = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text} sets nothing; write --set decoder.hidden=1024.")
    try:
        value = json.loads(written)
    except (ValueError, RecursionError):
        value = written
    return _checked(nested(path.strip(), value), f"--set {path}")


def nested(path: str, value: Any) -> Values:
    """The value at its dotted path."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def merged(*layers: Values) -> Values:
    """All values, of a value in several layers the last."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            before = result.get(name)
            nest = isinstance(before, dict) and isinstance(value, dict)
            result[name] = merged(before or {}, value) if nest else value
    return result


def complete(
    values: Values, rows: Sequence[Row] = (), *, scenes: bool = False, start_from: EncoderConfig | None = None
) -> TrainingConfig:
    """The values on top of the preset that fits: for generated scenes, for training on from a checkpoint with the
    encoder `start_from` (self-critical training where that is all the values ask for), or for photographs such as
    `rows`. Raises ConfigError."""
    if start_from is not None:
        others = values.get("epochs") != 0 or values.get("frozen_epochs")
        only_rewards = values.get("self_critical_epochs") and not others
        preset = TrainingConfig.rewarded() if only_rewards else TrainingConfig.retraining(start_from)
    elif scenes:
        preset = TrainingConfig.starter()
    else:
        encoder = values.get("encoder", {})
        name = encoder.get("name", EncoderConfig.name)
        weights = encoder.get("weights", "none" if name == "small_cnn" else "imagenet")
        learned = [row for row in rows if row.split == manifest.TRAIN and any(row.references)]
        captions = sum(len(row.references) for row in learned) if rows else None
        size = {"batch_size": values["batch_size"]} if values.get("batch_size", 0) > 0 else {}
        preset = TrainingConfig.photos(name, weights, images=len(learned), captions=captions, **size)
        if encoder.get("trained", "none") != "none":  # it would be trained on every view of every image, in every epoch
            once = dataclasses.replace(preset.encoder, views=EncoderConfig.views)
            preset = dataclasses.replace(preset, encoder=once, decoding=preset.decoding.quick())
    return TrainingConfig.from_json(merged(preset.to_json(), values))


def _checked(values: Any, source: str) -> Values:
    if wrong := TrainingConfig.wrong(values):
        raise ConfigError(f"{source}: {'; '.join(wrong)}.")
    return dict(values)
