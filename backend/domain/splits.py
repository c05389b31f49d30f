"""The split of an image, by its content hash when it is first seen: training, development, held-out or blind."""

from __future__ import annotations

from training.data import manifest

HELD_OUT_SHARE = 0.15
"""Share of images whose corrections evaluate candidates and are never trained on."""
CHOOSING_SHARE = 0.1
"""Share of images whose corrections choose the weight interpolation between champion and candidate."""

JUDGING = frozenset({manifest.BLIND, manifest.HELD_OUT})
"""Splits that evaluate models and are never trained on."""


def split_of(sha256: str, blind_share: float) -> str:
    """The split of the image: BLIND (its tasks show no draft) and HELD_OUT evaluate, DEV chooses, TRAIN is learned."""
    if is_blind(sha256, blind_share):
        return manifest.BLIND
    position = manifest.split_position(sha256)
    if position < HELD_OUT_SHARE:
        return manifest.HELD_OUT
    return manifest.DEV if position < HELD_OUT_SHARE + CHOOSING_SHARE else manifest.TRAIN


def split_in(place: str, drafted: bool) -> str:
    """The split of an image in its place: captions that began as a draft judge, but not as blind ones."""
    return manifest.HELD_OUT if place == manifest.BLIND and drafted else place


def is_blind(sha256: str, share: float) -> bool:
    """Whether tasks with this image show no draft: `share` of all images, by content.

    Captions edited from a draft favour the model that wrote it; captions of blind tasks do not.
    """
    return manifest.split_position(sha256, "blind:") < share
