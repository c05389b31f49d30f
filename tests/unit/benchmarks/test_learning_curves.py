from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.learning_curves import Curves, area, falling, interval, labels_share, labels_to_reach

LABELS = (0, 100, 200, 400)


def kept(means: tuple[float, ...], noise: float = 0.0, seed: int = 0) -> dict[str, Any]:
    """A curve with these mean edits."""
    chance = np.random.default_rng(seed)
    return {
        "points": [
            {"labels": labels, "edits": (mean + noise * chance.normal(size=50)).tolist()}
            for labels, mean in zip(LABELS, means, strict=True)
        ]
    }


def test_the_nearest_values_that_never_rise() -> None:
    assert falling(np.array([5.0, 3.0, 4.0, 2.0])).tolist() == [5.0, 3.5, 3.5, 2.0]
    assert falling(np.array([1.0, 2.0, 3.0])).tolist() == [2.0, 2.0, 2.0]


def test_the_labels_that_are_needed_stand_between_two_points() -> None:
    labels = np.array(LABELS)
    assert labels_to_reach(labels, np.array([8.0, 6.0, 4.0, 4.0]), 5.0) == 150.0
    assert labels_to_reach(labels, np.array([8.0, 6.0, 4.0, 4.0]), 9.0) == 0.0
    assert labels_to_reach(labels, np.array([8.0, 6.0, 4.0, 4.0]), 3.0) == math.inf
    lucky = np.array([8.0, 4.0, 8.0, 4.0])  # what it reaches once and loses again is not reached
    assert labels_to_reach(labels, lucky, 5.0) > 200.0


def test_a_strategy_that_needs_half_the_labels_has_a_share_of_one_half() -> None:
    random = Curves.of([kept((8.0, 7.0, 6.0, 4.0)), kept((8.0, 7.0, 6.0, 4.0))])
    fast = Curves.of([kept((8.0, 6.0, 4.0, 3.0))])
    assert labels_share(fast, random) == 0.5
    assert labels_share(random, random) == 1.0
    assert area(fast) == pytest.approx((7 * 100 + 5 * 100 + 3.5 * 200) / 400)


def test_intervals_hold_what_was_measured_and_are_the_wider_the_more_images_differ() -> None:
    random = Curves.of([kept((8.0, 7.0, 6.0, 4.0), 1.0, seed) for seed in range(2)])
    fast = Curves.of([kept((8.0, 6.0, 4.0, 3.0), 1.0, 9)])
    low, high = interval(fast, random)["last_difference"]
    assert low < float(fast.means[-1] - random.means[-1]) < high
    assert high < 0
    exact = interval(Curves.of([kept((8.0, 6.0, 4.0, 3.0))]), Curves.of([kept((8.0, 7.0, 6.0, 4.0))]))
    assert exact["last_difference"] == (-1.0, -1.0)
    assert exact["labels_share"] == (0.5, 0.5)


def test_curves_that_still_run_are_compared_as_far_as_they_have_come() -> None:
    short = kept((8.0, 7.0, 6.0, 4.0))
    del short["points"][2:]
    assert Curves.of([kept((8.0, 7.0, 6.0, 4.0)), short]).labels.tolist() == [0, 100]
