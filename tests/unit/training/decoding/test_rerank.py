"""Of several captions the one nearest to the others: the rule and its measure."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch

from training.captioner.captioner import Captioner
from training.config import DecodingConfig
from training.decoding.beam_search import Found
from training.decoding.rerank import by_consensus, nearness, padded
from training.metrics import CiderD


def found(*captions: str, log: float = -0.5) -> list[Found]:
    return [Found(tuple(map(ord, caption)), log) for caption in captions]


def said(several: list[Found]) -> list[str]:
    return ["".join(map(chr, one.tokens)) for one in several]


def test_what_most_captions_say_beats_a_likelier_loner() -> None:
    loner, *others = found("xyzuvw", "abcdef", "abcdeg", "abcdfe")
    several = [replace(loner, mean_log_probability=-0.4), *others]
    assert said(by_consensus(several, 0.7))[0] == "abcdef"
    assert said(by_consensus(several, 0.7))[-1] == "xyzuvw"


def test_of_captions_equally_near_the_likelier_comes_first() -> None:
    first, second, third = found("abcd", "abce", "xabc")
    assert said(by_consensus([first, second, third], 0.7))[:2] == ["abcd", "abce"]
    likelier = replace(second, mean_log_probability=-0.3)
    assert said(by_consensus([first, likelier, third], 0.7))[:2] == ["abce", "abcd"]


def test_two_captions_have_no_majority_and_stay_as_they_come() -> None:
    several = found("abcdef", "ab")
    assert by_consensus(several, 0.7) == several
    assert by_consensus([], 0.7) == []


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


def test_a_captioner_says_one_of_its_beam_and_keeps_the_number_asked_for(tiny: Captioner) -> None:
    grid = torch.randn(3, tiny.encoder.cells(tiny.transform.side), tiny.encoder.channels)
    plain = DecodingConfig(beam=8, max_length=6)
    agreed = replace(plain, consensus=True)
    for several, two in zip(tiny.tell_several(grid, 8, plain), tiny.tell_several(grid, 2, agreed), strict=True):
        proposed = [Found(one.tokens, log(one.score)) for one in several]
        assert [one.tokens for one in two] == [one.tokens for one in by_consensus(proposed, 0.9)[:2]]
    assert agreed.signature() != plain.signature()
