"""Of several captions the one nearest to the others: the rule and its measure."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from training.decoding.rerank import nearness, padded
from training.metrics import CiderD


def test_nearness_by_hand() -> None:
    captions = padded([tuple(map(ord, text)) for text in ("abc", "abd", "abc", "")])
    near = nearness(captions, captions)
    assert near[0, 2] == pytest.approx(3 / 4)  # no four words: that order has nothing in common
    assert near[0, 1] == pytest.approx((2 / 3 + 1 / 2) / 4)
    assert near[0, 3] == 0.0
    short, long = padded([(97, 98)]), padded([tuple(map(ord, "abxxxxxx"))])
    assert nearness(short, long)[0, 0] == pytest.approx(
        (2 / (2**0.5 * 38**0.5) + 1 / (1 * 27**0.5)) / 4 * exp(-36 / 72)
    )


def test_nearness_is_cider_d_without_its_weights() -> None:
    captions = [tuple(np.random.default_rng(seed).integers(1, 5, size=5 + seed).tolist()) for seed in range(6)]
    references = [[captions[0]], [(90, 91, 92, 93)]]
    expected = CiderD(references).rewards([0] * 6, captions) / 10  # every n-gram is one image's: all weigh the same
    assert nearness(padded(captions), padded(captions[:1]))[:, 0] == pytest.approx(expected)
