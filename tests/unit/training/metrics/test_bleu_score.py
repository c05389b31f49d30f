import math

import pytest

from tests.unit.training.metrics.corpora import HYPOTHESES, REFERENCES, generate, numbered
from training.errors import TrainingError
from training.metrics import bleu
from training.metrics.bleu_statistics import bleu_statistics, corpus_bleu_4, sentence_bleu_4

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


def test_smoothed_bleu_of_a_caption_is_nltks_with_smoothing_method_2() -> None:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smoothing = SmoothingFunction().method2
    for seed in range(3):
        hypotheses, references = generate(seed, 40)
        scores = sentence_bleu_4(bleu_statistics(hypotheses, references))
        for score, text, captions in zip(scores, hypotheses, references, strict=True):
            words, expected = text.split(), [caption.split() for caption in captions]
            value = sentence_bleu(expected, words, smoothing_function=smoothing) if words else 0
            assert score == pytest.approx(100 * value)


def test_statistics_of_all_captions_make_nltks_corpus_value() -> None:
    for seed in range(3):
        for hypotheses, references in (generate(seed, 40), (HYPOTHESES, REFERENCES)):
            sums = bleu_statistics(hypotheses, references).sum(axis=0)
            assert float(corpus_bleu_4(sums)) == pytest.approx(bleu(hypotheses, references).value, abs=1e-9)
