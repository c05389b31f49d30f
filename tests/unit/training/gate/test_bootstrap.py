import random
import time

import numpy as np
import pytest

from training.errors import TrainingError
from training.gate import bootstrap
from training.gate.bootstrap import compare, resamples
from training.metrics import bleu
from training.metrics.bleu_statistics import bleu_statistics, corpus_bleu_4

WORDS = ["a", "the", "dog", "cat", "man", "runs", "sits", "on", "grass", "red"]


def captions(count: int, seed: int, longest: int = 12) -> list[str]:
    lot = random.Random(seed)
    return [" ".join(lot.choices(WORDS, k=lot.randint(0, longest))) for _ in range(count)]


def references(count: int, seed: int) -> list[list[str]]:
    lot = random.Random(seed)
    return [
        [" ".join(lot.choices(WORDS, k=lot.randint(1, 12))) for _ in range(lot.randint(1, 4))] for _ in range(count)
    ]


def test_resampled_scores_are_nltks_of_the_same_sentences() -> None:
    said, expected = captions(60, 1), references(60, 2)
    counted, counts = bleu_statistics(said, expected), resamples(60, 15)
    for score, times in zip(corpus_bleu_4(counts @ counted), counts.astype(int), strict=True):
        rows = np.repeat(np.arange(60), times)
        assert len(rows) == 60
        assert score == pytest.approx(bleu([said[r] for r in rows], [expected[r] for r in rows]).value, abs=1e-9)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["a dog", "cat"], [["a dog runs"], ["a cat"]]),  # no n-gram of three or four: smoothed
        (["", ""], [["a dog"], ["a cat"]]),
        (["", "a dog runs on grass"], [["a dog"], ["a dog runs on grass"]]),
        (["man man"], [["a dog"]]),  # no word matches
        (["a dog a dog a dog"], [["a dog runs"], ["a dog a dog"]][:1]),  # clipped
        (["a dog runs"], [["a dog runs on", "a dog"]]),  # as near: the shorter counts
        (["a dog"], [["a dog runs on grass", "the man"]]),
    ],
)
def test_the_corners_of_nltks_bleu(said: list[str], expected: list[list[str]]) -> None:
    assert float(corpus_bleu_4(bleu_statistics(said, expected).sum(axis=0))) == pytest.approx(
        bleu(said, expected).value, abs=1e-9
    )


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(TrainingError, match="references of 1 images"):
        bleu_statistics(["a", "b"], [["a"]])
    with pytest.raises(TrainingError, match="not 0 and 1000"):
        resamples(0)
    counted = bleu_statistics(captions(5, 1), references(5, 2))
    with pytest.raises(TrainingError, match="the same sentences"):
        compare(counted, counted[:4], resamples(5), 0.025)
    with pytest.raises(TrainingError, match="the same sentences"):
        compare(counted, counted, resamples(4), 0.025)


def test_resamples_are_multinomial_and_repeatable() -> None:
    counts = resamples(50, 2000)
    assert counts.shape == (2000, 50)
    assert (counts.sum(axis=1) == 50).all()
    assert counts.mean() == 1.0
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.02)
    assert (resamples(50, 2000) == counts).all()
    assert (resamples(50, 2000, seed=2) != counts).any()


def test_sums_are_exact_in_single_precision() -> None:
    counted = bleu_statistics(captions(3000, 1), references(3000, 2))
    counts = resamples(3000, 20)
    assert (counts @ counted == counts.astype(np.int64) @ counted.astype(np.int64)).all()


def models(pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of one who says a reference with one word changed, and one who does so less often."""
    expected = references(pairs, 3)
    lot = random.Random(4)
    worse = [each[0] if lot.random() < 0.4 else f"{each[0]} {lot.choice(WORDS)} man" for each in expected]
    better = [each[0] if lot.random() < 0.6 else text for each, text in zip(expected, worse, strict=True)]
    return bleu_statistics(worse, expected), bleu_statistics(better, expected)


def test_bounds_lie_about_the_difference_and_narrow_with_pairs() -> None:
    champion, candidate = models(400)
    found = compare(champion, candidate, resamples(400), 0.025)
    assert found.value == pytest.approx(
        float(corpus_bleu_4(candidate.sum(axis=0)) - corpus_bleu_4(champion.sum(axis=0)))
    )
    assert found.lower < found.value < found.upper
    assert found.upper - found.lower >= 2 * 1.96 * found.error
    other = compare(candidate, champion, resamples(400), 0.025)
    assert (other.value, other.lower, other.upper) == pytest.approx((-found.value, -found.upper, -found.lower))
    few = compare(champion[:100], candidate[:100], resamples(100), 0.025)
    assert few.error == pytest.approx(2 * found.error, rel=0.35)
    strict = compare(champion, candidate, resamples(400), 0.001)
    assert strict.lower < found.lower
    assert strict.upper > found.upper


def test_near_the_usual_quantiles_where_nothing_is_skewed() -> None:
    champion, candidate = models(1000)
    counts = resamples(1000, 4000)
    drawn = corpus_bleu_4(counts @ candidate) - corpus_bleu_4(counts @ champion)
    found = compare(champion, candidate, counts, 0.025)
    assert (found.lower, found.upper) == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.3 * found.error
    )


def test_a_few_great_losses_widen_the_side_they_are_on() -> None:
    expected = references(200, 5)
    right = [each[0] for each in expected]
    marred = ["zebra" if number < 4 else text for number, text in enumerate(right)]
    lost = compare(bleu_statistics(right, expected), bleu_statistics(marred, expected), resamples(200), 0.025)
    assert lost.value - lost.lower > 1.1 * (lost.upper - lost.value)


@pytest.mark.parametrize(
    ("level", "freedom", "table"),
    [(0.025, 2, 4.303), (0.025, 9, 2.262), (0.025, 29, 2.045), (0.025, 99, 1.984), (0.0005, 9, 4.781)],
)
def test_students_t_as_in_the_tables(level: float, freedom: int, table: float) -> None:
    assert bootstrap._student(level, freedom) == pytest.approx(table, abs=0.0005)


def test_bounds_lie_further_where_few_sentences_make_the_difference() -> None:
    lot = np.random.default_rng(1)
    normal = lot.normal(size=5000)
    assert bootstrap._distances(normal, 0.025) == pytest.approx((1.96, 1.96), abs=0.02)
    few = np.where(np.arange(5000) < 20, normal, 0.0)
    for reach in bootstrap._distances(few, 0.025):
        assert reach > bootstrap._student(0.025, 25)
    down, up = bootstrap._distances(np.where(np.arange(200) < 10, -1.0, 0.1), 0.025)
    assert down > up + 0.2
    mirrored = bootstrap._distances(np.where(np.arange(200) < 10, 1.0, -0.1), 0.025)
    assert mirrored == pytest.approx((up, down))


def test_who_fails_now_and_then_does_not_pass_by_a_set_without_failures() -> None:
    """One caption in fifteen is very bad: one time in forty may the bound be above the truth, and usual ones more."""
    expected = references(400, 7)
    right = [f"{each[0]} cat" for each in expected]
    marred = ["zebra" if number % 15 == 0 else text for number, text in enumerate(right)]
    champion, candidate = bleu_statistics(right, expected), bleu_statistics(marred, expected)
    truth = float(corpus_bleu_4(candidate.sum(axis=0)) - corpus_bleu_4(champion.sum(axis=0)))
    lot, counts = np.random.default_rng(1), resamples(150, 200)
    ours = usual = 0
    for _ in range(400):
        drawn = lot.integers(400, size=150)
        found = compare(champion[drawn], candidate[drawn], counts, 0.025)
        ours += found.lower > truth
        usual += found.value - 1.96 * found.error > truth
    assert usual / 400 > 0.05
    assert ours / 400 < 0.025


def test_the_same_captions_do_not_differ() -> None:
    champion, _ = models(20)
    found = compare(champion, champion, resamples(20), 0.025)
    assert (found.value, found.lower, found.upper, found.error) == (0, 0, 0, 0)


def test_one_pair_says_nothing_of_chance() -> None:
    champion, candidate = bleu_statistics(["a dog"], [["a dog"]]), bleu_statistics(["a cat"], [["a dog"]])
    found = compare(champion, candidate, resamples(1), 0.025)
    assert (found.lower, found.upper) == (-100, 100)


def test_five_thousand_pairs_take_no_time_to_speak_of() -> None:
    champion, candidate = (np.tile(each, (10, 1)) for each in models(500))
    begun = time.process_time()
    compare(champion, candidate, resamples(5000), 0.025)
    assert time.process_time() - begun < 5  # 0.3 s where nothing else runs
