"""What learning curves say: how many labels a strategy needs for what random labels bring, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLED = 1000


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of one strategy, one a seed: `edits` (S, P, I) of each scored image after each of `labels` (P,)."""

    labels: np.ndarray
    edits: np.ndarray

    @classmethod
    def of(cls, kept: Sequence[Mapping[str, Any]]) -> Curves:
        """Of curves as `benchmarks.labelling` keeps them, up to where all of them have come."""
        length = min(len(each["points"]) for each in kept)
        edits = [[point["edits"] for point in each["points"][:length]] for each in kept]
        return cls(np.array([point["labels"] for point in kept[0]["points"][:length]]), np.array(edits, float))

    @property
    def means(self) -> np.ndarray:
        """Word edits an image after each number of labels (P,)."""
        return self.edits.mean(axis=(0, 2))

    def only(self, images: np.ndarray) -> Curves:
        """Of these images alone: their places, or a mask of all."""
        return Curves(self.labels, self.edits[:, :, images])

    def resampled(self, images: np.ndarray, chance: np.random.Generator) -> Curves:
        """Of these images, and of as many seeds drawn from these."""
        seeds = chance.integers(len(self.edits), size=(len(self.edits),))
        return Curves(self.labels, self.edits[seeds][:, :, images])


def falling(values: np.ndarray) -> np.ndarray:
    """The nearest values that never rise (isotonic regression; Ayer et al., 1955): more labels teach no less, so what
    rises is noise, and the first lucky point does not count as reached."""
    blocks: list[list[float]] = []  # mean and length
    for value in values.tolist():
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            mean, length = blocks.pop()
            before, others = blocks.pop()
            blocks.append([(before * others + mean * length) / (others + length), others + length])
    return np.repeat([mean for mean, _ in blocks], [int(length) for _, length in blocks])


def labels_to_reach(labels: np.ndarray, edits: np.ndarray, target: float) -> float:
    """At how many labels the curve falls to the target, between two points on a line; infinity if it does not."""
    fallen = falling(edits)
    below = np.flatnonzero(fallen <= target)
    if not len(below):
        return math.inf
    first = int(below[0])
    if not first:
        return float(labels[0])
    (left, right), (high, low) = labels[first - 1 : first + 1], fallen[first - 1 : first + 1]
    return float(left + (right - left) * (high - target) / max(high - low, 1e-12))


def labels_share(curves: Curves, random: Curves) -> float:
    """The labels with which a strategy comes as far as random ones with all, over these."""
    return labels_to_reach(curves.labels, curves.means, falling(random.means)[-1]) / float(random.labels[-1])


def area(curves: Curves) -> float:
    """Word edits an image, the mean over the labels from none to the last."""
    means = curves.means
    return float(np.sum(np.diff(curves.labels) * (means[1:] + means[:-1]) / 2) / (curves.labels[-1] - curves.labels[0]))


def interval(curves: Curves, random: Curves) -> dict[str, tuple[float, float]]:
    """95 % intervals by bootstrap over images and seeds, the same images for both strategies: of the share of labels
    and of the differences in word edits at the end and in the area."""
    chance = np.random.default_rng(1)
    found: dict[str, list[float]] = {"labels_share": [], "last_difference": [], "area_difference": []}
    for _ in range(RESAMPLED):
        images = chance.integers(curves.edits.shape[2], size=(curves.edits.shape[2],))
        ours, theirs = (each.resampled(images, chance) for each in (curves, random))
        found["labels_share"].append(labels_share(ours, theirs))
        found["last_difference"].append(float(ours.means[-1] - theirs.means[-1]))
        found["area_difference"].append(area(ours) - area(theirs))
    return {name: _middle(several) for name, several in found.items()}


def _middle(several: Sequence[float]) -> tuple[float, float]:
    """The middle 95 %."""
    ordered = sorted(several)
    cut = int(0.025 * len(ordered))
    return ordered[cut], ordered[-1 - cut]
