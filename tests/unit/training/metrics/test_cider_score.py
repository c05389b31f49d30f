import math
import time

import numpy as np
import pytest

from tests.unit.training.metrics.corpora import HYPOTHESES, REFERENCES, generate, numbered
from training.errors import TrainingError
from training.metrics import CiderD, cider_d, cider_d_each

# pycocoevalcap 1.2 on ROWS.
RECORDED = 235.688883
RECORDED_EACH = [276.255174, 1000, 0, 56.436755, 126.116576, 0, 42.292943, 250, 370.098504]


def test_cider_d_is_that_of_pycocoevalcap() -> None:
    score = cider_d(HYPOTHESES, REFERENCES)
    assert score.value == pytest.approx(RECORDED, abs=1e-4)
    assert cider_d_each(HYPOTHESES, REFERENCES) == pytest.approx(RECORDED_EACH, abs=1e-4)
    assert score.signature == "ciderD|n:4|sigma:6|df:references|tok:captioner-1"


@pytest.mark.parametrize("images", [1, 2, 40])
def test_cider_d_agrees_with_pycocoevalcap_on_generated_corpora(images: int) -> None:
    scorer = pytest.importorskip("pycocoevalcap.cider.cider", reason="pycocoevalcap is not installed")
    for seed in range(5):
        hypotheses, references = generate(seed, images)
        value, each = scorer.Cider().compute_score(*numbered(hypotheses, references))
        assert cider_d(hypotheses, references).value == pytest.approx(100 * value, abs=1e-9)
        assert cider_d_each(hypotheses, references) == pytest.approx(list(100 * each), abs=1e-9)


def test_cider_d_by_hand() -> None:
    # Only unigrams. "dog" is said of one image of two and weighs log 2 each time, "a" is said of both and weighs
    # nothing; the second "dog" is clipped in the product but not in the norm; one token more than the reference.
    each = cider_d_each(["dog dog", "a"], [["dog"], ["cat"]])
    cosine = 1 / 2
    assert each == pytest.approx([100 * 10 * cosine / 4 * math.exp(-1 / 72), 0])


def test_one_image_alone_scores_nothing_as_no_word_tells_it_from_others() -> None:
    assert cider_d(["a dog runs"], [["a dog runs"]]).value == 0


def test_words_and_word_numbers_are_rewarded_alike() -> None:
    hypotheses, texts = generate(7, 30)
    numbers: dict[str, int] = {}

    def encode(text: str) -> list[int]:
        return [numbers.setdefault(word, len(numbers)) for word in text.split()]

    of_words = CiderD([[text.split() for text in captions] for captions in texts])
    of_numbers = CiderD([[encode(text) for text in captions] for captions in texts])
    images = [number % 30 for number in range(60)]
    rewards = of_words.rewards(images, [hypotheses[-image].split() for image in images])
    assert np.array_equal(rewards, of_numbers.rewards(images, [tuple(encode(hypotheses[-image])) for image in images]))
    assert rewards.shape == (60,)
    assert rewards.dtype == np.float64


def test_rewards_do_not_depend_on_the_other_candidates() -> None:
    cider = CiderD([[["a", "dog"], ["dog"]], [["a", "cat"]]])
    together = cider.rewards([1, 0, 0], [["a", "cat"], ["a", "dog"], []])
    assert list(together) == [float(cider.rewards([1], [["a", "cat"]])[0]), float(together[1]), 0]
    assert together[1] > 0
    assert cider.rewards([], []).shape == (0,)


def test_rewards_refuse_what_would_be_scored_silently_wrong() -> None:
    with pytest.raises(TrainingError, match="no images"):
        CiderD([])
    with pytest.raises(TrainingError, match="Image 1 has no reference"):
        CiderD([[["a"]], []])
    with pytest.raises(TrainingError, match="image 1 must be lists of tokens"):
        CiderD([[["a"]], ["a dog"]])
    prepared = CiderD([[["a", "dog"]], [["a", "cat"]]])
    with pytest.raises(TrainingError, match="2 candidates were given but 1"):
        prepared.rewards([0], [["a"], ["a"]])
    with pytest.raises(TrainingError, match="not texts"):
        prepared.rewards([0], ["a dog"])
    for image in (-1, 2):
        with pytest.raises(TrainingError, match="from 0 to 1"):
            prepared.rewards([image], [["a"]])


def test_rewards_are_fast_enough_for_training() -> None:
    hypotheses, texts = generate(11, 500, shortest=8)
    cider = CiderD([[text.split() for text in captions] for captions in texts])
    candidates = [text.split() for text in hypotheses] * 6
    images = list(range(500)) * 6
    started = time.process_time()
    cider.rewards(images, candidates)
    # A tenth of a second or two here; thirty thousand candidates must not take a minute on any machine.
    assert time.process_time() - started < 5


def test_a_very_long_caption_costs_no_more_than_its_words() -> None:
    long = ["a", "dog", "runs"] * 20_000
    cider = CiderD([[long, ["a", "dog"]], [["a", "cat"]]])
    started = time.process_time()
    rewards = cider.rewards([0, 0], [long, ["a", "dog"]])
    assert rewards[0] == pytest.approx(5, abs=1e-9)  # one of two references, word for word; the other is far shorter
    assert 0 < rewards[1] <= 5
    assert time.process_time() - started < 5


def test_repeated_and_unknown_words_are_told_apart() -> None:
    cider = CiderD([[["a", "dog"]], [["cat"]]])
    twice, different = cider.rewards([0, 0], [["a", "new", "new"], ["a", "new", "word"]])
    assert 0 < twice < different  # a word said twice makes a longer vector than two words said once
