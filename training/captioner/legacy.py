"""What earlier releases wrote into checkpoints under other names: the one table of it."""

from __future__ import annotations

from typing import Any

from training.errors import CheckpointError

LEFT: dict[str, dict[str, Any]] = {"decoding": {"consensus": False, "min_length": 1, "no_repeat": 0}}
"""By part of config.json the options that no longer exist, each with the only value that can still be loaded."""

WEIGHTS = {
    "neighbours.hashes": "retrieval.hashes",
    "neighbours.seen": "retrieval.features",
    "neighbours.captions": "retrieval.captions",
}
"""Names of tensors that are called otherwise today."""


def weight(name: str) -> str:
    """Today's name of a tensor."""
    return WEIGHTS.get(name, name)


def current(part: str, values: Any) -> Any:
    """The values of this part of config.json under today's names. Raises CheckpointError for a feature that left."""
    if not isinstance(values, dict):
        return values
    values = dict(values)
    for name, harmless in LEFT.get(part, {}).items():
        if values.pop(name, harmless) != harmless:
            raise CheckpointError(f"It uses {part}.{name}, which this version no longer has.")
    return values
