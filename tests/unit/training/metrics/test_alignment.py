from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest

from training.metrics.alignment import character_edits, word_changes
from training.metrics.words import word_edits


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("a dog runs", "A dog runs.", (0, 0, 0)),
        ("", "a dog", (2, 0, 0)),
        ("a dog", "", (0, 2, 0)),
        ("a dog runs", "a brown dog runs", (1, 0, 0)),
        ("a dog runs", "a cat runs fast", (1, 0, 1)),
        ("a man and a dog", "a dog", (0, 3, 0)),
        ("a b", "b c", (1, 1, 0)),  # and not two words replaced, which keeps none
    ],
)
def test_words_inserted_deleted_and_replaced(before: str, after: str, changes: tuple[int, int, int]) -> None:
    assert word_changes([before], [after])[:, :3].tolist() == [list(changes)]


def _best(a: list[str], b: list[str]) -> tuple[int, int, int, int]:
    """The fewest edits, then the fewest replacements, with the insertions and deletions of that way; plainly."""
    table = {(0, 0): (0, 0, 0, 0)}
    for i, j in product(range(len(a) + 1), range(len(b) + 1)):
        ways = []
        if j:
            edits, replaced, inserted, deleted = table[i, j - 1]
            ways.append((edits + 1, replaced, inserted + 1, deleted))
        if i:
            edits, replaced, inserted, deleted = table[i - 1, j]
            ways.append((edits + 1, replaced, inserted, deleted + 1))
        if i and j:
            edits, replaced, inserted, deleted = table[i - 1, j - 1]
            other = a[i - 1] != b[j - 1]
            ways.append((edits + other, replaced + other, inserted, deleted))
        if ways:
            table[i, j] = min(ways)
    return table[len(a), len(b)]


def test_the_changes_are_those_of_the_table_of_distances() -> None:
    chance = random.Random(4)
    texts = [" ".join(chance.choices("abcd", k=chance.choice([0, 1, 3, 6, 14]))) for _ in range(600)]
    before, after = texts[:300], texts[300:]
    found = word_changes(before, after)
    for changes, a, b in zip(found.tolist(), before, after, strict=True):
        _, replaced, inserted, deleted = _best(a.split(), b.split())
        assert changes == [inserted, deleted, replaced, len(b.split()) - inserted - replaced]
        assert sum(changes[:3]) == word_edits(a, b)
    characters = character_edits(before, after)
    assert characters.tolist() == [_best([*a], [*b])[0] for a, b in zip(before, after, strict=True)]


def test_one_very_long_text_among_short_ones() -> None:
    long = " ".join(f"w{number}" for number in range(3000))
    found = word_changes(["a dog", long, "a dog"], ["a dog runs", f"x {long} y", "cats"])
    assert found.tolist() == [[1, 0, 0, 2], [2, 0, 0, 3000], [0, 1, 1, 0]]
    assert np.array_equal(character_edits(["größer", ""], ["grösser", "x"]), [2, 1])


def test_nothing_is_nothing() -> None:
    assert word_changes([], []).shape == (0, 4)
    assert character_edits([], []).shape == (0,)
