import copy
from dataclasses import replace

import pytest
import torch

from training.captioner.captioner import Captioner
from training.learning.optim import FINE_TUNING, WeightAverage, optimiser, schedule


def test_a_linear_rise_comes_first() -> None:
    share = schedule(200)
    rise = [share(step) for step in range(11)]
    assert rise == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert max(share(step) for step in range(201)) == 1


def test_cosine_falls_to_zero_slowly_fast_slowly() -> None:
    share = schedule(200)
    assert [share(step) for step in (10, 105, 200, 500)] == pytest.approx([1, 0.5, 0, 0])
    falls = [share(step) - share(step + 1) for step in range(10, 200)]
    assert min(falls) > 0
    assert max(falls) == pytest.approx(falls[95], rel=0.01)
    assert falls[0] < falls[40] < falls[95] > falls[150] > falls[-1]


def test_even_one_step_learns_something() -> None:
    assert 0 < schedule(1)(0) <= 1


def test_biases_norms_and_embeddings_do_not_decay(tiny: Captioner) -> None:
    tiny.encoder.config = replace(tiny.encoder.config, weights="encoder.pth")
    tiny.encoder.backbone.requires_grad_(True)
    groups = optimiser(tiny, 0.25).param_groups
    where = {id(value): group for group in groups for value in group["params"]}
    names = {name: where[id(value)] for name, value in tiny.named_parameters()}
    assert len(where) == len(names)
    for name, group in names.items():
        assert group["lr"] == (FINE_TUNING if name.startswith("encoder.") else 0.25)
    decaying = {name for name, group in names.items() if group["weight_decay"]}
    assert {"decoder.word.weight", "decoder.first.weight_ih_l0", "encoder.backbone.convolutions.0.weight"} <= decaying
    assert not decaying & {"decoder.word.bias", "decoder.grid.1.weight", "decoder.embedding.weight", "decoder.bias"}


def test_what_is_frozen_is_not_optimised(tiny: Captioner) -> None:
    groups = optimiser(tiny, 0.1).param_groups
    held = {id(value) for group in groups for value in group["params"]}
    assert held == {id(value) for value in tiny.decoder.parameters()}


def _to(captioner: Captioner, value: float) -> None:
    with torch.no_grad():
        captioner.decoder.decoders[0].bias.fill_(value)


def bias_of(average: WeightAverage, captioner: Captioner) -> float:
    """The average of the bias that `_to` sets."""
    average.swap()
    found = captioner.decoder.decoders[0].bias.mean().item()
    average.swap()
    return found


def test_swapping_twice_changes_nothing(tiny: Captioner) -> None:
    average = WeightAverage(tiny, uniform=True)
    _to(tiny, 8.0)
    average.update()
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    average.swap()
    assert not torch.equal(tiny.decoder.decoders[0].bias, before["decoder.bias"])
    average.swap()
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


def test_a_young_average_is_near_the_present_weights_and_an_old_one_is_not(tiny: Captioner) -> None:
    young, old = WeightAverage(tiny), WeightAverage(tiny)
    _to(tiny, 0.0)
    for average in (young, old):
        average.update()
    old.average.n_averaged.fill_(1_000_000)
    _to(tiny, 1.0)
    for average in (young, old):
        average.update()
    assert bias_of(young, tiny) > 0.7
    assert bias_of(old, tiny) == pytest.approx(0.001, rel=1e-3)


def test_a_uniform_average_is_the_mean_of_all_weights_the_initial_ones_included(tiny: Captioner) -> None:
    _to(tiny, 0.0)
    average = WeightAverage(tiny, uniform=True)
    for value in range(1, 100):
        _to(tiny, float(value))
        average.update()
    assert bias_of(average, tiny) == pytest.approx(sum(range(100)) / 100, rel=1e-4)


def test_only_what_is_trained_is_averaged(tiny: Captioner) -> None:
    averaged = [value.shape for value in WeightAverage(tiny).average.parameters()]
    assert averaged == [value.shape for value in tiny.decoder.parameters()]


def test_an_average_goes_on_from_its_state(tiny: Captioner) -> None:
    _to(tiny, 0.0)
    one = WeightAverage(tiny)
    one.update()
    _to(tiny, 1.0)
    one.update()
    other = WeightAverage(tiny)
    other.average.load_state_dict(copy.deepcopy(one.average.state_dict()))
    for average in (one, other):
        _to(tiny, 3.0)
        average.update()
    pairs = zip(one.average.parameters(), other.average.parameters(), strict=True)
    assert all(torch.equal(value, alike) for value, alike in pairs)


def test_an_encoder_with_pretrained_weights_moves_slowly(tiny: Captioner) -> None:
    for weights, rates in (("none", {0.25}), ("encoder.pth", {0.25, FINE_TUNING})):
        tiny.encoder.config = replace(tiny.encoder.config, weights=weights, trained="all")
        tiny.encoder.freeze(False)
        assert {group["lr"] for group in optimiser(tiny, 0.25).param_groups} == rates
