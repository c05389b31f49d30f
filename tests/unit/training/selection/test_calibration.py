import json
import math

import numpy as np
import pytest

from training.errors import DataError
from training.selection.calibration import (
    EXPECTED,
    LEAST,
    LEAST_OF_A_KIND,
    Calibration,
    cross_fitted,
    fit,
    learned,
    reliability,
)

WEIGHTS = np.array([1.2, -0.8, 0.0])


def drafts(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals (N, 3) of different sizes, the true chances (N,), and which drafts were accepted (N,)."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(number, 3))
    chances = 1 / (1 + np.exp(-(values @ WEIGHTS - 1.0)))
    return values * [0.3, 5.0, 1.0] + [-1.0, 20.0, 0.0], chances, random.random(number) < chances


def test_chances_are_those_that_acceptance_depends_on() -> None:
    values, _, accepted = drafts(4000)
    calibration = fit(values, accepted)
    assert calibration
    others, truth, came = drafts(4000, seed=1)
    found = calibration.chances(others)
    assert np.abs(found - truth).mean() < 0.02
    measured = reliability(found, came)
    assert measured.ece < 0.04
    assert measured.brier < 0.9 * measured.base_brier
    assert measured.auroc == pytest.approx(reliability(truth, came).auroc, abs=0.005)
    assert measured.auroc > 0.75


def test_few_corrections_are_read_by_what_signals_are_worth_elsewhere_and_many_by_themselves() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(4000, len(EXPECTED)))
    logits = values @ EXPECTED - 3.5  # a twentieth of them is accepted
    as_elsewhere, otherwise = (random.random(4000) < 1 / (1 + np.exp(-each)) for each in (logits, -logits - 7.0))
    better, worse = [], []
    for _ in range(20):
        yes, no = (random.permutation(np.flatnonzero(kind)) for kind in (as_elsewhere, ~as_elsewhere))
        few = np.concatenate([yes[:5], no[:75]])
        for found, expected in ((better, EXPECTED), (worse, ())):
            chances = learned(values[few], as_elsewhere[few], expected).chances(values)
            found.append(reliability(chances, as_elsewhere).auroc)
    assert np.mean(better) > np.mean(worse) + 0.05
    other = fit(values, otherwise)
    assert other
    assert other.weights[0] < -0.4, "here log probabilities are worth the contrary"


def test_what_is_reported_is_measured_on_corrections_that_it_was_not_fitted_on() -> None:
    random = np.random.default_rng(2)
    values, accepted = (
        random.normal(size=(60, 30)),
        random.random(60) < 0.5,
    )  # nothing to learn, and much to learn by heart
    calibration = fit(values, accepted)
    assert calibration
    assert reliability(calibration.chances(values), accepted).auroc > 0.85
    assert 0.3 < reliability(cross_fitted(values, accepted), accepted).auroc < 0.7
    assert (cross_fitted(values, accepted) == cross_fitted(values, accepted)).all(), "the same each time"


def test_no_chances_from_too_few_corrections() -> None:
    values, _, accepted = drafts(LEAST)
    assert fit(values, accepted)
    assert fit(values[1:], accepted[1:]) is None
    few = np.arange(200) < LEAST_OF_A_KIND - 1
    assert fit(np.zeros((200, 3)), few) is None
    assert fit(np.zeros((200, 3)), ~few) is None
    assert fit(np.zeros((0, 3)), np.zeros(0, dtype=bool)) is None


def test_a_signal_that_is_unknown_counts_as_its_mean() -> None:
    values, _, accepted = drafts(500)
    values[::3, 0], values[:, 2] = math.nan, math.nan
    calibration = fit(values, accepted)
    assert calibration
    assert np.isfinite(calibration.chances(values)).all()
    known = np.array([*calibration.mean])
    assert calibration.chances(np.array([[math.nan] * 3]))[0] == pytest.approx(calibration.chances(known[None])[0])
    assert calibration.weights[2] == 0, "nobody knows it"


def test_signals_beyond_those_of_all_corrections_tell_no_more_than_theirs() -> None:
    values, _, accepted = drafts(500)
    calibration = fit(values, accepted)
    assert calibration
    near, far = np.array(calibration.mean), np.array(calibration.mean)
    near[0] += 3 * calibration.spread[0]
    far[0] += 1000 * calibration.spread[0]
    assert calibration.chances(far[None])[0] == pytest.approx(calibration.chances(near[None])[0])


def test_a_calibration_is_kept_as_json() -> None:
    values, _, accepted = drafts(100)
    calibration = fit(values, accepted)
    assert calibration
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert again == calibration
    for damaged in (None, {}, {**calibration.to_json(), "bias": None}, {**calibration.to_json(), "weights": [1.0]}):
        with pytest.raises(DataError):
            Calibration.from_json(damaged)


def test_reliability_is_counted_in_bins_of_equal_size() -> None:
    chances = np.array([0.1] * 20 + [0.6] * 20)
    accepted = np.array([True] * 2 + [False] * 18 + [True] * 16 + [False] * 4)
    found = reliability(chances, accepted, bins=2)
    assert [(each.number, each.chance, each.accepted) for each in found.bins] == [
        (20, pytest.approx(0.1), pytest.approx(0.1)),
        (20, pytest.approx(0.6), pytest.approx(0.8)),
    ]
    assert found.ece == pytest.approx(0.1)
    assert found.base_rate == pytest.approx(0.45)
    assert found.base_brier == pytest.approx(0.45 * 0.55)
    assert found.brier == pytest.approx((2 * 0.81 + 18 * 0.01 + 16 * 0.16 + 4 * 0.36) / 40)
    # of 18 x 22 pairs: the accepted one first, or as likely
    assert found.auroc == pytest.approx((16 * 18 + 0.5 * (2 * 18 + 16 * 4)) / (18 * 22))
    assert len(reliability(chances, accepted).bins) == 4, "at least ten in a bin"
    assert math.isnan(reliability(chances, np.ones(40, dtype=bool)).auroc)
