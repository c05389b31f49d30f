"""How images lie to each other by their pooled features: how typical each is, and which cover the others best.

Features are compared in few dimensions, by a random projection that keeps their angles nearly (Johnson and
Lindenstrauss, 1984), and in parts, so that 100,000 images take seconds and little memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from training.decoding.reuse import FeatureSpace

DIMENSIONS = 128
PART = 4096
"""Images computed at once."""
COMPARED_WITH = 2048
"""Images that stand for all that wait when it is asked how typical one is."""
NEIGHBOURS, FEWEST = 0.01, 10
"""Share of them that count as the neighbours of an image, and how many do at least: a burst makes nothing typical."""


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


def typicality(places: np.ndarray, seed: int) -> np.ndarray:
    """How near the nearest hundredth of the others is to each of the points (N, D): the mean similarity (N,).

    It is the density of Settles and Craven (2008), of the neighbourhood and not of everything: by the distance to all,
    what is of a rare subject would be an outlier, however many there are of it.
    """
    chance = np.random.default_rng([seed, 2])
    sample = chance.permutation(len(places))[:COMPARED_WITH]
    column_of = np.full(len(places), -1)
    column_of[sample] = np.arange(len(sample))
    neighbours = min(max(FEWEST, round(NEIGHBOURS * len(sample))), len(sample))
    found = np.zeros(len(places), np.float32)
    for part in _parts(len(places)):
        similarity = places[part] @ places[sample].T
        rows = np.flatnonzero(column_of[part] >= 0)
        similarity[rows, column_of[part][rows]] = -1  # itself
        found[part] = np.partition(similarity, -neighbours, axis=1)[:, -neighbours:].mean(axis=1)
    return found


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
