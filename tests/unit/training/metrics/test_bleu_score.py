import math

import pytest

from tests.unit.training.metrics.corpora import HYPOTHESES, REFERENCES, generate, numbered
from training.errors import TrainingError
from training.metrics import SentenceBleu, bleu, sentence_bleu_4

DOGS = ["a brown dog runs over the green grass", "the dog is running on grass"]

# pycocoevalcap 1.2 on ROWS.
RECORDED = (69.387755, 61.018402, 51.712911, 45.131478)


def by_nltk(value: float, n: int, hypotheses: list[str]) -> float:
    """What pycocoevalcap's BLEU-n becomes when every hypothesis has at least one n-gram of each order, as in nltk."""
    for order in range(1, n + 1):
        counts = [len(text.split()) - order + 1 for text in hypotheses]
        value *= (sum(max(0, count) for count in counts) / sum(max(1, count) for count in counts)) ** (1 / n)
    return value


def test_bleu_of_a_reference_is_100() -> None:
    assert bleu(["A brown dog runs over the green grass."], [DOGS]).value == pytest.approx(100)


def test_bleu_by_hand() -> None:
    # Unigrams 4/5, bigrams 2/4, both references five words long: no brevity penalty.
    score = bleu(["a b c x e"], [["a b c d e", "f g h i j"]], n=2)
    assert score.value == pytest.approx(100 * math.sqrt(4 / 5 * 2 / 4))
    assert score.name == "BLEU-2"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_bleu_is_that_of_pycocoevalcap_but_for_hypotheses_shorter_than_n(n: int) -> None:
    assert bleu(HYPOTHESES, REFERENCES, n).value == pytest.approx(by_nltk(RECORDED[n - 1], n, HYPOTHESES), abs=1e-4)


@pytest.mark.parametrize("shortest", [0, 4])
def test_bleu_agrees_with_pycocoevalcap_on_generated_corpora(shortest: int) -> None:
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed")
    for seed in range(5):
        hypotheses, references = generate(seed, 40, shortest)
        theirs, _ = scorer.Bleu(4).compute_score(*numbered(hypotheses, references), verbose=0)
        for n, value in enumerate(theirs, start=1):
            expected = 100 * value if shortest == 4 else by_nltk(100 * value, n, hypotheses)
            assert bleu(hypotheses, references, n).value == pytest.approx(expected, abs=1e-4)


def test_an_order_without_a_match_counts_a_tenth_of_one() -> None:
    score = bleu(["a b x y"], [["a b c d"]])
    assert score.value == pytest.approx(100 * (2 / 4 * 1 / 3 * 0.1 / 2 * 0.1 / 1) ** 0.25)


def test_an_empty_hypothesis_costs_but_does_not_fail() -> None:
    whole = bleu([DOGS[0], DOGS[0]], [DOGS, DOGS]).value
    half = bleu([DOGS[0], ""], [DOGS, DOGS]).value
    assert 0 < half < whole
    assert bleu([""], [DOGS]).value == 0
    assert bleu(["zebra"], [DOGS]).value == 0


def test_the_signature_names_order_scorer_and_smoothing() -> None:
    score = bleu(["a dog"], [DOGS])
    assert score.signature != bleu(["a dog"], [DOGS], n=2).signature
    for part in ("bleu4", "nltk:", "smooth:method1"):
        assert part in score.signature


def test_bleu_refuses_orders_below_one() -> None:
    with pytest.raises(TrainingError, match="at least 1"):
        bleu(["a"], [["a"]], n=0)


def test_rewards_are_nltks_sentence_bleu_with_smoothing_method_2() -> None:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smoothing = SmoothingFunction().method2
    for seed in range(3):
        hypotheses, texts = generate(seed, 40)
        candidates = [text.split() for text in hypotheses]
        references = [[text.split() for text in captions] for captions in texts]
        rewards = SentenceBleu(references).rewards(range(40), candidates)
        for reward, candidate, captions in zip(rewards, candidates, references, strict=True):
            expected = sentence_bleu(captions, candidate, smoothing_function=smoothing) if candidate else 0
            assert reward == pytest.approx(expected)
            assert sentence_bleu_4(candidate, captions) == reward


def test_a_sentence_of_four_matching_words_is_rewarded_in_full_and_a_short_one_is_not() -> None:
    assert sentence_bleu_4([5, 6, 7, 8], [[5, 6, 7, 8], [9]]) == pytest.approx(1)
    assert 0 < sentence_bleu_4([5], [[5, 6, 7, 8]]) < 0.1
    assert sentence_bleu_4([], [[5]]) == 0


def test_rewards_of_no_candidates_are_an_empty_array() -> None:
    assert SentenceBleu([[[1]]]).rewards([], []).shape == (0,)
