"""The splits of a data set: their names, and splits for data sets whose publisher made none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from training.data import manifest
from training.data.manifest import Row

TEST = "test"
UNDECIDED = ""
"""The split of a row whose data set has no splits, until its image has been read."""

SHARE = 1 / 14
"""The share of test images, and of dev images, in a data set without splits."""

_SALT = "data set"  # without it a project's held-out images would always be among the test images
_NAMES = {
    "": UNDECIDED,
    "train": manifest.TRAIN,
    "training": manifest.TRAIN,
    "restval": manifest.TRAIN,  # images of COCO's val split that Karpathy added to train
    "dev": manifest.DEV,
    "val": manifest.DEV,
    "valid": manifest.DEV,
    "validation": manifest.DEV,
    "test": TEST,
    "held_out": manifest.HELD_OUT,
    "blind": manifest.BLIND,
}


def split_named(word: str) -> str:
    """The split that a publisher calls `word`. Raises ValueError for an unknown word."""
    try:
        return _NAMES[word.strip().lower()]
    except KeyError:
        known = ", ".join(name for name in _NAMES if name)
        raise ValueError(f"there is no split {word!r}; known are {known}") from None


def with_splits(rows: Iterable[Row]) -> list[Row]:
    """The rows; those without a split get one computed from the image's hash.

    An image therefore has the same split on every machine and under every file name, also when the data set grows.
    """
    kept = []
    for row in rows:
        if row.split == UNDECIDED:
            position = manifest.split_position(row.sha256, _SALT)
            split = TEST if position < SHARE else manifest.DEV if position < 2 * SHARE else manifest.TRAIN
            row = replace(row, split=split)
        kept.append(row)
    return kept
