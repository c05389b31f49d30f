import random

import pytest
from nltk.metrics.distance import edit_distance

from training.metrics import distinct_words, mean_length, word_edits


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


def test_word_edits_are_those_of_nltk() -> None:
    chance, known = random.Random(1), ["a", "man", "dog", "in", "red", "snow", "on"]
    for _ in range(500):
        a, b = (chance.choices(known, k=chance.randint(0, 12)) for _ in "ab")
        assert word_edits(" ".join(a), " ".join(b)) == edit_distance(a, b)


def test_distinct_words_and_mean_length() -> None:
    assert distinct_words(["A dog.", "a cat runs"]) == 4
    assert mean_length(["A dog.", "a cat runs"]) == 2.5
    assert mean_length([]) == 0
