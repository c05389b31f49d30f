from dataclasses import replace

import pytest
import torch

from training.captioner.captioner import Captioner
from training.config import FINE_TUNING, TrainingConfig
from training.learning.optim import Average, optimiser, rate


def test_a_linear_rise_comes_first() -> None:
    for schedule in ("cosine", "linear", "constant"):
        share = rate(schedule, 100, 0.1)
        rise = [share(step) for step in range(11)]
        assert rise == pytest.approx([(step + 1) / 11 for step in range(11)])
        assert max(share(step) for step in range(101)) == 1


def test_cosine_falls_to_zero_slowly_fast_slowly() -> None:
    share = rate("cosine", 110, 10 / 110)
    assert [share(step) for step in (10, 60, 110)] == pytest.approx([1, 0.5, 0])
    falls = [share(step) - share(step + 1) for step in range(10, 110)]
    assert min(falls) > 0
    assert max(falls) == pytest.approx(falls[50], rel=0.01)
    assert falls[0] < falls[20] < falls[50] > falls[80] > falls[-1]


def test_linear_falls_evenly_to_zero_and_stays() -> None:
    share = rate("linear", 110, 10 / 110)
    assert [share(step) for step in (10, 35, 60, 85, 110, 500)] == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0])


def test_constant_stays() -> None:
    assert {rate("constant", 110, 0.1)(step) for step in range(11, 300)} == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.9])
def test_even_one_step_learns_something(schedule: str, warmup: float) -> None:
    assert 0 < rate(schedule, 1, warmup)(0) <= 1


def test_biases_norms_and_embeddings_do_not_decay(tiny: Captioner, tiny_config: TrainingConfig) -> None:
    tiny.encoder.body.requires_grad_(True)
    groups = optimiser(tiny, replace(tiny_config, encoder_learning_rate=0.5), 0.25).param_groups
    where = {id(value): group for group in groups for value in group["params"]}
    names = {name: where[id(value)] for name, value in tiny.named_parameters()}
    assert len(where) == len(names)
    for name, group in names.items():
        assert group["lr"] == (0.5 if name.startswith("encoder.") else 0.25)
    decaying = {name for name, group in names.items() if group["weight_decay"]}
    assert {"decoder.word.weight", "decoder.first.weight_ih_l0", "encoder.body.convolutions.0.weight"} <= decaying
    assert not decaying & {"decoder.word.bias", "decoder.grid.1.weight", "decoder.embedding.weight", "decoder.bias"}


def test_what_is_frozen_is_not_optimised(tiny: Captioner, tiny_config: TrainingConfig) -> None:
    groups = optimiser(tiny, tiny_config, 0.1).param_groups
    held = {id(value) for group in groups for value in group["params"]}
    assert held == {id(value) for value in tiny.decoder.parameters()}


def _to(captioner: Captioner, value: float) -> None:
    with torch.no_grad():
        captioner.decoder.decoders[0].bias.fill_(value)


def test_swapping_twice_changes_nothing(tiny: Captioner) -> None:
    average = Average(tiny, 0.9)
    _to(tiny, 8.0)
    average.update(tiny)
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    average.swap(tiny)
    assert not torch.equal(tiny.decoder.decoders[0].bias, before["decoder.bias"])
    average.swap(tiny)
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


def test_a_young_average_is_near_the_present_weights_and_an_old_one_is_not(tiny: Captioner) -> None:
    _to(tiny, 0.0)
    young, old = Average(tiny, 0.999), Average(tiny, 0.999)
    old.steps = 1_000_000
    _to(tiny, 1.0)
    for average in (young, old):
        average.update(tiny)
    assert young.weights["decoder.bias"].mean() > 0.7
    assert old.weights["decoder.bias"].mean() == pytest.approx(0.001, rel=1e-3)


def test_an_average_that_heeds_its_start_is_the_mean_of_all_that_was(tiny: Captioner) -> None:
    _to(tiny, 0.0)
    mean, short = Average(tiny, 1.0, heeds_start=True), Average(tiny, 0.9, heeds_start=True)
    for value in range(1, 100):
        _to(tiny, float(value))
        mean.update(tiny)
        short.update(tiny)
    assert mean.weights["decoder.bias"].mean() == pytest.approx(sum(range(100)) / 100, rel=1e-4)
    assert 89 < short.weights["decoder.bias"].mean() < 91  # it reaches ten steps back


def test_only_what_is_trained_is_averaged(tiny: Captioner) -> None:
    assert set(Average(tiny, 0.9).weights) == {f"decoder.{name}" for name, _ in tiny.decoder.named_parameters()}


def test_an_average_goes_on_from_its_state(tiny: Captioner) -> None:
    _to(tiny, 0.0)
    one = Average(tiny, 0.9)
    _to(tiny, 1.0)
    one.update(tiny)
    state = {"steps": one.steps, "weights": {name: value.clone() for name, value in one.state()["weights"].items()}}
    other = Average(tiny, 0.9)
    other.load_state(state)
    for average in (one, other):
        _to(tiny, 3.0)
        average.update(tiny)
    assert other.steps == one.steps == 2
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


def test_an_encoder_that_has_learned_before_moves_slowly(tiny: Captioner, tiny_config: TrainingConfig) -> None:
    tiny.encoder.config = replace(tiny.encoder.config, trained="all")
    tiny.encoder.hold(False)
    config = replace(tiny_config, encoder_learning_rate=None)

    def rates() -> set[float]:
        return {group["lr"] for group in optimiser(tiny, config, 0.25).param_groups}

    assert rates() == {0.25, FINE_TUNING}
    tiny.encoder.from_nothing = True
    assert rates() == {0.25}


def test_without_warm_up_the_first_step_has_the_whole_rate() -> None:
    assert rate("constant", 10, 0.0)(0) == 1.0
