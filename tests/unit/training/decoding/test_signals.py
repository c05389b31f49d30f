"""Signals of captions: what they say, and that they cost no caption."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from training.captioner.captioner import Captioner, pooled
from training.config import ARCHITECTURES, DecodingConfig
from training.decoding.reuse import Correction
from training.decoding.signals import length, rarity
from training.evaluation.explain import attention_maps
from training.vocabulary import SPECIALS


def with_architecture(tiny: Captioner, architecture: str, ensemble: int = 1) -> Captioner:
    torch.manual_seed(3)
    decoder = dataclasses.replace(tiny.decoder.config, architecture=architecture, ensemble=ensemble)
    parts = tiny.transform, tiny.decoding, tiny.vocabulary, tiny.style
    return Captioner(tiny.encoder.config, decoder, *parts).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_captions_are_the_same_with_signals(tiny: Captioner, grid: torch.Tensor, architecture: str) -> None:
    captioner = with_architecture(tiny, architecture)
    many = torch.cat([grid, torch.randn(7, *grid.shape[1:])])
    for decoding in (tiny.decoding, DecodingConfig(beam=1), DecodingConfig(top_p=0.9, max_length=5)):
        plain = [captions[0] for captions in captioner.generate_n_best(many, 1, decoding)]
        found = captioner.hypotheses(many, decoding)
        assert [(each, each.ranking_score) for each in found] == [(each, each.ranking_score) for each in plain]


def test_the_captions_are_the_same_where_the_beam_is_reranked(tiny: Captioner, grid: torch.Tensor) -> None:
    tiny.decoding = DecodingConfig(beam=3, max_length=6, neighbours=1)
    given = [Correction(f"{n:02x}" * 32, text, 1, at=0) for n, text in enumerate(["a red picture", "nothing"] * 15)]
    features = np.random.default_rng(0).normal(size=(30, tiny.encoder.channels)).astype(np.float16)
    memory = tiny.retrieval_with(given, features)
    plain = [captions[0] for captions in tiny.generate_n_best(grid, 1, retrieval=memory)]
    found = tiny.hypotheses(grid, retrieval=memory)
    assert [(each, each.ranking_score) for each in found] == [(each, each.ranking_score) for each in plain]


def test_what_they_say_of_an_image_does_not_depend_on_its_batch(tiny: Captioner, exact: None) -> None:
    torch.manual_seed(5)
    many = torch.randn(12, tiny.encoder.cells(32), 128) * torch.linspace(0.1, 4, 12)[:, None, None]
    together = tiny.hypotheses(many)
    for number, found in enumerate(together):
        [alone] = tiny.hypotheses(many[number : number + 1])
        assert found.signals == pytest.approx(alone.signals, abs=1e-4, nan_ok=True)


@pytest.mark.parametrize(("architecture", "ensemble"), [("two_layer_attention", 1), ("two_layer_attention", 2)])
def test_the_entropy_is_that_of_the_attention_maps(
    tiny: Captioner, grid: torch.Tensor, architecture: str, ensemble: int
) -> None:
    captioner = with_architecture(tiny, architecture, ensemble)
    for found, cells in zip(captioner.hypotheses(grid), grid, strict=True):
        assert found.signals
        maps = attention_maps(captioner, cells, found.tokens).reshape(len(found.tokens), -1)
        entropy = -(maps * np.log(maps)).sum(axis=1) / math.log(maps.shape[1])
        assert found.signals.attention_entropy == pytest.approx(entropy.mean(), abs=1e-3)
        assert 0 < found.signals.attention_entropy <= 1


def test_without_attention_there_is_no_entropy(tiny: Captioner, grid: torch.Tensor) -> None:
    [found, _] = with_architecture(tiny, "initial_state").hypotheses(grid)
    assert found.signals
    assert math.isnan(found.signals.attention_entropy)
    assert not math.isnan(found.signals.margin)


def test_the_margin_is_that_before_the_next_caption(tiny: Captioner, grid: torch.Tensor) -> None:
    for found, cells in zip(tiny.hypotheses(grid), grid, strict=True):
        [several] = tiny.generate_n_best(cells[None], 2)
        assert found.signals
        least = several[0].ranking_score - several[1].ranking_score
        assert found.signals.margin >= least - 1e-5 >= -1e-5, "nothing was searched for the next one"
    [greedy, _] = tiny.hypotheses(grid, DecodingConfig(beam=1))
    assert greedy.signals
    assert math.isnan(greedy.signals.margin), "there is no other"


def test_the_other_signals(tiny: Captioner, picture: Callable[..., Path]) -> None:
    [found] = tiny.caption([picture("red")])
    assert found.signals  # type: ignore[union-attr]
    signals = found.signals  # type: ignore[union-attr]
    assert math.exp(signals.log_probability) == pytest.approx(found.score)  # type: ignore[union-attr]
    assert signals.rarity == rarity(found.tokens)  # type: ignore[union-attr]
    first = len(SPECIALS)  # of the most frequent word
    assert (rarity([first]), rarity([first + 4]), rarity([first, first + 4])) == pytest.approx(
        (0.0, math.log(5), math.log(5) / 2)
    )
    assert signals.length == math.log(len(found.tokens))  # type: ignore[union-attr]
    assert math.isnan(rarity([]))
    assert math.isnan(length([]))
    space = tiny.feature_space
    assert space
    assert signals.image_distance > 0
    mean, spread = torch.from_numpy(space.mean), torch.from_numpy(space.spread)
    assert space.distance(pooled((mean + 2 * spread).expand(4, -1))) == pytest.approx(2, abs=0.01)
    assert math.isnan(_trained(tiny).hypotheses(torch.randn(1, tiny.encoder.cells(32), 128))[0].signals[4])  # type: ignore[index]


def _trained(tiny: Captioner) -> Captioner:
    """Its encoder is trained on, so that its features are compared with nothing."""
    encoder = dataclasses.replace(tiny.encoder.config, trained="all")
    return Captioner(encoder, tiny.decoder.config, tiny.transform, tiny.decoding, tiny.vocabulary, tiny.style).eval()
