from __future__ import annotations

import numpy as np
import pytest

from training.decoding.reuse import FeatureSpace
from training.errors import DataError
from training.selection.strategies import STRATEGIES, Candidates, select, shortlist

CHANNELS = 320
SPACE = FeatureSpace("an encoder", np.zeros(CHANNELS, np.float32), np.full(CHANNELS, 3.0, np.float32))


def around(centre: np.ndarray, number: int, seed: int, noise: float) -> np.ndarray:
    """Features near a centre."""
    return (centre + noise * np.random.default_rng(seed).normal(size=(number, CHANNELS))).astype(np.float16)


def centre(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=CHANNELS)


def candidates(number: int = 60, features: np.ndarray | None = None) -> Candidates:
    chance = np.random.default_rng(5)
    given = around(centre(1), number, 2, 2.0) if features is None else features
    return Candidates(chance.random(number), chance.random(number), given, chance.random(number))


def order(given: Candidates, count: int, strategy: str, **options: object) -> list[int]:
    """What is selected without a control share."""
    found = select(given, count, strategy, **{"seed": 1, "control_share": 0.0, "space": SPACE, **options})  # type: ignore[arg-type]
    return [each.index for each in found]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_candidate_comes_once_and_the_same_seed_selects_the_same(strategy: str) -> None:
    found = select(candidates(), 60, strategy, seed=3, space=SPACE)
    assert sorted(each.index for each in found) == list(range(60))
    assert sum(each.is_control for each in found) == 6
    assert found == select(candidates(), 60, strategy, seed=3, space=SPACE)
    assert len(select(candidates(), 10**12, strategy, seed=3, space=SPACE)) == 60, "all, in memory for all"
    assert found != select(candidates(), 60, strategy, seed=4, space=SPACE)


def test_what_is_least_certain_comes_first_and_what_is_unknown_last() -> None:
    given = Candidates(np.array([0.5, np.nan, 0.1, 0.9]), np.array([0.3, 0.4, np.nan, 0.2]))
    assert order(given, 4, "least-confident") == [2, 0, 3, 1]
    assert order(given, 4, "margin") == [3, 0, 1, 2]
    assert shortlist(given, 2, seed=1).tolist() == [2, 0]


def test_sampled_captions_that_disagree_most_come_first_then_what_was_not_sampled() -> None:
    chances = np.array([0.5, 0.3, 0.4, 0.1])
    given = Candidates(chances, chances, disagreements=np.array([0.2, np.nan, 0.8, np.nan]))
    assert order(given, 4, "disagreement") == [2, 0, 3, 1]


def test_k_center_takes_one_of_each_kind_before_a_second_of_any() -> None:
    kinds = [around(centre(seed), number, seed, 0.8) for seed, number in ((1, 40), (2, 5), (3, 2), (4, 1))]
    kind_of = np.repeat(range(4), [40, 5, 2, 1])
    known = around(centre(2), 3, 9, 0.8)
    found = order(candidates(48, np.concatenate(kinds)), 6, "k-center", known=known)
    assert sorted(kind_of[found[:3]]) == [0, 2, 3], "the second kind is known already"


def test_combined_prefers_what_differs_from_the_training_images_as_many_do_and_of_that_the_uncertain() -> None:
    ordinary, new = around(np.zeros(CHANNELS), 60, 1, 2.0), around(1.5 * centre(2), 20, 2, 2.0)
    outliers = np.concatenate([around(4 * centre(seed), 1, seed, 0.0) for seed in range(10, 14)])
    chances = np.concatenate([np.full(60, 0.5), np.linspace(0.1, 0.9, 20), np.full(4, 0.05)])
    given = Candidates(chances, chances, np.concatenate([ordinary, new, outliers]))
    found = order(given, 8, "combined")
    assert set(found) <= set(range(60, 80)), "neither what is known nor outliers"
    assert np.mean(found) < 69, "the uncertain ones stand first"
    assert set(order(given, 4, "least-confident")) == set(range(80, 84))


def test_combined_goes_on_where_it_knows_nothing_yet() -> None:
    kinds = np.concatenate([around(1.5 * centre(1), 20, 1, 1.5), around(1.5 * centre(2), 20, 2, 1.5)])
    given = Candidates(np.full(40, 0.5), np.full(40, 0.5), kinds)
    found = order(given, 6, "combined", known=around(1.5 * centre(1), 5, 3, 1.5))
    assert sum(index >= 20 for index in found) >= 4, found


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_near_duplicates_of_what_is_selected_or_known_wait(strategy: str) -> None:
    several = np.concatenate([around(centre(seed), 1, seed, 0.0) for seed in range(10)])
    copies = several + (0.1 * np.random.default_rng(8).normal(size=several.shape)).astype(np.float16)
    given = candidates(20, np.concatenate([several, copies]).astype(np.float16))
    found = select(given, 20, strategy, seed=1, known=several[:3], space=SPACE)
    assert sorted(each.index % 10 for each in found) == list(range(3, 10)), "one of each pair, and none of the known"


def test_without_features_nothing_is_a_duplicate_and_unknown_features_are_unlike_all() -> None:
    chances = np.linspace(0.1, 0.9, 5)
    assert order(Candidates(chances, chances), 5, "combined") == [0, 1, 2, 3, 4]
    unknown = np.full((5, CHANNELS), np.nan, np.float16)
    unknown[2] = centre(1)
    for strategy in STRATEGIES[:3] + STRATEGIES[4:]:
        assert sorted(order(Candidates(chances, chances, unknown), 5, strategy)) == [0, 1, 2, 3, 4]


def test_the_control_share_is_random_marked_and_right_on_average() -> None:
    given = Candidates(np.arange(200.0), np.arange(200.0))
    found = [select(given, 25, "least-confident", seed=seed) for seed in range(200)]
    controls = [[place for place, each in enumerate(several) if each.is_control] for several in found]
    assert {len(each) for each in controls} == {2, 3}
    assert abs(np.mean([len(each) for each in controls]) - 2.5) < 0.15
    assert len({place for each in controls for place in each}) == 25, "at all places"
    chosen = [each.index for several in found for each in several if each.is_control]
    assert 80 < np.mean(chosen) < 120
    others = [each.index for each in found[0] if not each.is_control]
    assert others == sorted(others)
    assert max(others) < 28


def test_a_strategy_without_what_it_needs_says_so() -> None:
    chances = np.linspace(0.1, 0.9, 5)
    with pytest.raises(DataError, match='"disagreement" needs sampled captions, and no waiting image has them'):
        select(Candidates(chances, chances), 3, "disagreement", seed=1)
    with pytest.raises(DataError, match='"k-center" needs drafts with features'):
        select(Candidates(chances, chances), 3, "k-center", seed=1)
    with pytest.raises(DataError, match='"margin" needs drafts with a margin'):
        select(Candidates(chances, np.full(5, np.nan)), 3, "margin", seed=1)


def test_nothing_is_selected_of_nothing() -> None:
    none = Candidates(np.zeros(0), np.zeros(0), np.zeros((0, CHANNELS), np.float16))
    assert select(none, 5, "combined", seed=1, space=SPACE) == []
    assert select(none, 5, "least-confident", seed=1, space=SPACE) == []
