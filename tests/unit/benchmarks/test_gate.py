"""The gate's benchmark measures what it says: true differences are exact, and the shares are of the gate's own rule."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gate
from training.errors import DataError, TrainingError
from training.gate import bootstrap
from training.metrics.bleu_statistics import corpus_bleu_4


@pytest.fixture(scope="module")
def three() -> gate.Population:
    return gate.captioners(gate.scenes(120))


@pytest.mark.parametrize("points", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("changed", [1.0, 0.5])
def test_the_true_difference_is_exact(three: gate.Population, points: float, changed: float) -> None:
    population = replace(three, changed=changed).with_difference(points)
    assert population.difference() == pytest.approx(points, abs=1e-9)
    # and it is what endless draws have
    chance = np.random.default_rng(1)
    images = chance.integers(120, size=200_000)
    candidate, champion = population.candidate(images, chance), population.champion[images]
    scores = [float(corpus_bleu_4(each.sum(axis=0, dtype=np.float64))) for each in (candidate, champion)]
    assert scores[0] - scores[1] == pytest.approx(points, abs=0.5)
    assert np.mean(np.any(candidate != champion, axis=1)) <= changed


def test_a_difference_out_of_reach_is_refused(three: gate.Population) -> None:
    with pytest.raises(TrainingError, match="further apart"):
        three.with_difference(90.0)


def test_who_is_far_better_is_promoted_and_who_is_far_worse_is_not(three: gate.Population) -> None:
    counts, chance = bootstrap.resamples(150, 100), np.random.default_rng(1)
    for points, policy, share in ((20.0, "improvement", 1.0), (-20.0, "margin", 0.0)):
        population = three.with_difference(points)
        found = gate.promotions(population, counts, 8, 2, chance, gate.POLICIES, "")
        assert found[policy].shape == (8, 2)
        assert found[policy].mean() == share


def test_captioners_too_near_each_other_are_refused() -> None:
    texts = gate.scenes(20)
    texts["hypotheses"] = dict.fromkeys("abc", texts["hypotheses"]["right"])
    with pytest.raises(TrainingError, match="to be the champion"):
        gate.captioners(texts)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"references": [["a"]], "hypotheses": {"x": ["a"]}}',
        '{"references": [], "hypotheses": {"x": ["a"]}}',
    ],
)
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    file.write_text(content)
    with pytest.raises(DataError, match=r"captions\.json"):
        gate.load(file)


def test_a_file_is_read(tmp_path: Path) -> None:
    texts = gate.scenes(5)
    (tmp_path / "captions.json").write_text(json.dumps(texts))
    assert gate.load(tmp_path / "captions.json") == texts
