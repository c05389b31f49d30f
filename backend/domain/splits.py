"""Which images are trained on, which choose among candidates and which judge them: decided by the hash of the image."""

from __future__ import annotations

from training.data import manifest
from training.data.manifest import split_position

HELD_OUT_SHARE = 0.15
"""Share of images, by content hash, whose corrections judge a candidate and are never trained on."""
CHOOSING_SHARE = 0.1
"""Share of images whose corrections choose how far a candidate goes from the champion."""


def split_of(sha256: str, blind_share: float) -> str:
    """Which corrections judge (BLIND: as their tasks show no draft, and HELD_OUT), which choose among candidates (DEV),
    which are trained on: fixed by the image."""
    if is_blind(sha256, blind_share):
        return manifest.BLIND
    position = manifest.split_position(sha256)
    if position < HELD_OUT_SHARE:
        return manifest.HELD_OUT
    return manifest.DEV if position < HELD_OUT_SHARE + CHOOSING_SHARE else manifest.TRAIN


def is_held_out(sha256: str, blind_share: float) -> bool:
    """Whether the corrections of this image judge models; they are never trained on."""
    return split_of(sha256, blind_share) in {manifest.BLIND, manifest.HELD_OUT}


def is_blind(sha256: str, share: float) -> bool:
    """Whether tasks with this image show no draft: `share` of all images, by content.

    Captions edited from a draft flatter the model that wrote it; those of blind tasks judge models fairly.
    """
    return split_position(sha256, "blind:") < share
