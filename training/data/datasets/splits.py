"""The splits of a data set: what publishers call them, and one for images whose publisher made none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from training.data import manifest
from training.data.manifest import Row

TEST = "test"
UNDECIDED = ""
"""The split of a row whose data set makes none, until its image has been read."""

SHARE = 1 / 14
"""Of images whose publisher made no split one in fourteen is test, one dev, and six in seven train."""

_SALT = "data set"  # or a project's own held-out images would always be found among the test images
_NAMES = {
    "": UNDECIDED,
    "train": manifest.TRAIN,
    "training": manifest.TRAIN,
    "restval": manifest.TRAIN,  # Karpathy's: the images of COCO's val that he added to train
    "dev": manifest.DEV,
    "val": manifest.DEV,
    "valid": manifest.DEV,
    "validation": manifest.DEV,
    "test": TEST,
    "held_out": manifest.HELD_OUT,
    "blind": manifest.BLIND,
}


def named(word: str) -> str:
    """Our word for a publisher's word of a split. Raises ValueError for one that is unknown."""
    try:
        return _NAMES[word.strip().lower()]
    except KeyError:
        known = ", ".join(name for name in _NAMES if name)
        raise ValueError(f"there is no split {word!r}; known are {known}") from None


def decided(rows: Iterable[Row]) -> list[Row]:
    """The rows, each undecided one with a split by its image's content.

    So an image has the same split on every machine and under every name, and keeps it as the data set grows.
    """
    return [row if row.split != UNDECIDED else replace(row, split=_by_content(row.sha256)) for row in rows]


def _by_content(sha256: str) -> str:
    position = manifest.split_position(sha256, _SALT)
    if position < SHARE:
        return TEST
    return manifest.DEV if position < 2 * SHARE else manifest.TRAIN
