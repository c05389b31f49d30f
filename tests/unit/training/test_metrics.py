import math
import random

import pytest

from training.errors import TrainingError
from training.metrics import bleu, distinct_words, mean_length, word_edits

DOGS = ["a brown dog runs over the green grass", "the dog is running on grass"]


def test_bleu_of_a_reference_is_100_whatever_its_case_and_punctuation() -> None:
    assert bleu(["A brown dog runs over the green grass."], [DOGS]).value == pytest.approx(100)


def test_bleu_by_hand() -> None:
    # Unigrams 4/5, bigrams 2/4, both references five words long: no brevity penalty.
    score = bleu(["a b c x e"], [["a b c d e", "f g h i j"]], n=2)
    assert score.value == pytest.approx(100 * math.sqrt(4 / 5 * 2 / 4))
    assert score.name == "BLEU-2"


def test_bleu_agrees_with_the_reference_scorer() -> None:
    # pycocoevalcap does not smooth; on a corpus with matches of all orders neither does method 1.
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    lot = random.Random(1)
    words = ["a", "the", "dog", "cat", "runs", "sits", "on", "over", "green", "grass"]
    references = [[" ".join(lot.choices(words, k=9)) for _ in range(3)] for _ in range(40)]
    hypotheses = [" ".join([*lot.choice(texts).split()[:6], *lot.choices(words, k=2)]) for texts in references]
    numbered = range(len(hypotheses))
    theirs, _ = scorer.compute_score(
        {i: references[i] for i in numbered}, {i: [hypotheses[i]] for i in numbered}, verbose=0
    )
    for n in (1, 2, 3, 4):
        assert bleu(hypotheses, references, n=n).value == pytest.approx(100 * theirs[n - 1], rel=1e-3)


def test_smoothing_gives_a_short_corpus_a_score_between_nothing_and_all() -> None:
    assert 1 < bleu(["a brown dog sleeps here today"], [DOGS]).value < 60


def test_an_empty_hypothesis_costs_but_does_not_fail() -> None:
    whole = bleu([DOGS[0], DOGS[0]], [DOGS, DOGS]).value
    half = bleu([DOGS[0], ""], [DOGS, DOGS]).value
    assert 0 < half < whole
    assert bleu([""], [DOGS]).value == 0
    assert bleu(["zebra"], [DOGS]).value == 0


def test_a_wordless_reference_changes_nothing() -> None:
    assert bleu(["a brown dog"], [[*DOGS, " . "]]).value == bleu(["a brown dog"], [DOGS]).value


def test_signature_states_what_makes_scores_comparable_and_counts_stand_apart() -> None:
    one, two = bleu(["a dog"], [DOGS]), bleu(["a dog", "a cat"], [DOGS, ["a cat"]])
    assert one.signature == two.signature
    assert one.signature != bleu(["a dog"], [DOGS], n=2).signature
    for part in ("bleu4", "nltk:", "smooth:method1", "tok:captioner-1"):
        assert part in one.signature
    assert (one.corpus, two.corpus) == ("refs:2|n:1", "refs:1-2|n:2")


@pytest.mark.parametrize(
    ("hypotheses", "references", "said"),
    [
        ([], [], "empty"),
        ("a dog", [DOGS], "list of texts"),
        (["a dog"], ["a dog runs"], "image 0"),
        (["a dog"], [DOGS, DOGS], "1 hypotheses"),
        (["a dog"], [[]], "no reference"),
        (["a dog"], [["."]], "no reference"),
        (["a dog", "a"], [DOGS, [["a", "dog"]]], "image 1"),
    ],
)
def test_bleu_refuses_what_nltk_would_score_silently_wrong(hypotheses, references, said) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TrainingError, match=said):
        bleu(hypotheses, references)


def test_bleu_refuses_orders_below_one() -> None:
    with pytest.raises(TrainingError, match="at least 1"):
        bleu(["a"], [["a"]], n=0)


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ("a red circle", "A red circle.", 0),
        ("a red circle", "a blue circle", 1),
        ("a red circle", "a small red circle", 1),
        ("a small red circle", "a circle", 2),
        ("", "a dog", 2),
        ("one two three", "three one two", 2),
        ("a b c d", "e f g h", 4),
    ],
)
def test_word_edits(a: str, b: str, edits: int) -> None:
    assert word_edits(a, b) == edits
    assert word_edits(b, a) == edits


def test_distinct_words_and_mean_length() -> None:
    assert distinct_words(["A dog.", "a cat runs"]) == 4
    assert mean_length(["A dog.", "a cat runs"]) == 2.5
    assert mean_length([]) == 0
