"""How images lie by their pooled features: how typical each is of what is to be learned, and which cover the others.

They are compared with each other in few dimensions, by a random projection that keeps their angles nearly (Johnson and
Lindenstrauss, 1984), and in parts, so that 100,000 images take seconds and little memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from training.decoding.reuse import FeatureSpace

DIMENSIONS = 128
PART = 4096
"""Images computed at once."""


def points(features: np.ndarray, space: FeatureSpace, seed: int) -> np.ndarray:
    """Features (N, C) as vectors of length 1 (N, D), whose products are nearly the similarities; 0 where unknown."""
    chance = np.random.default_rng([seed, 1])
    projection = chance.standard_normal((features.shape[1], DIMENSIONS), np.float32)
    found = np.zeros((len(features), DIMENSIONS), np.float32)
    for part in _parts(len(features)):
        known = np.flatnonzero(is_known(features[part]))
        directions = space.directions(features[part][known]) @ projection
        found[part][known] = directions / np.linalg.norm(directions, axis=1, keepdims=True).clip(1e-6)
    return found


def is_known(features: np.ndarray) -> np.ndarray:
    """Which of the features (N, C) are there: (N,). The others are nan."""
    return np.isfinite(features[:, 0])


def nearest(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The similarity of each of the points (N, D) to the nearest of the others (M, D): (N,), -1 where there is none."""
    found = np.full(len(places), -1, np.float32)
    for part in _parts(len(places)):
        for other in _parts(len(others)):
            found[part] = np.maximum(found[part], (places[part] @ others[other].T).max(axis=1))
    return found


def typicality(features: np.ndarray, space: FeatureSpace) -> np.ndarray:
    """How far each of the features (N, C) differs from the training images in the way in which all do: (N,), nan where
    it is unknown.

    What waits differs from what was learned by its subjects. An image is typical of what is to be learned if it differs
    alike; an outlier has a direction of its own. This is discriminative active learning (Gissin and Shalev-Shwartz,
    2019) with the simplest classifier, the difference of means over standardised channels (Fisher, 1936).
    """
    known = is_known(features)
    shift = np.sum(
        [_differences(features[part][known[part]], space).sum(axis=0) for part in _parts(len(features))], axis=0
    )
    found = np.concatenate([_differences(features[part], space) @ shift for part in _parts(len(features))])
    return np.where(known, found, np.nan)


def _differences(features: np.ndarray, space: FeatureSpace) -> np.ndarray:
    """How features (N, C) differ from the mean of the training images, as vectors of length 1: none decides alone."""
    standardised = (features.astype(np.float32) - space.mean) / space.spread
    return np.asarray(standardised / np.linalg.norm(standardised, axis=1, keepdims=True).clip(1e-6))


def farthest_first(
    places: np.ndarray, among: np.ndarray, similarity: np.ndarray, weights: np.ndarray, taken: Sequence[int]
) -> Iterator[int]:
    """Those `among` the points (N, D), each time the one whose distance to what is known or taken, times its weight, is
    greatest.

    With equal weights this is greedy k-center (Sener and Savarese, 2018). `similarity` and `weights` are those of each
    of `among`, the former to the nearest known image. `taken` are points too and grow while others are asked for.
    """
    ours, seen = places[among], 0
    distance, weights = (1 - similarity).astype(np.float32), weights.astype(np.float32)
    for _ in range(len(among)):
        for index in taken[seen:]:
            np.minimum(distance, 1 - ours @ places[index], out=distance)
        seen = len(taken)
        best = int(np.argmax(weights * distance.clip(1e-6)))
        weights[best] = -1  # it comes once
        yield int(among[best])


def _parts(length: int) -> Iterator[slice]:
    return (slice(first, min(first + PART, length)) for first in range(0, length, PART))
