"""Splits by name and by content."""

import hashlib
from pathlib import Path

import pytest

from training.data import manifest
from training.data.datasets import splits
from training.data.manifest import Row


def undecided(number: int) -> Row:
    return Row(Path(f"{number}.jpg"), hashlib.sha256(str(number).encode()).hexdigest(), ("A dog",), splits.UNDECIDED)


def test_six_in_seven_train() -> None:
    rows = splits.with_splits([undecided(number) for number in range(7000)])
    counts = [sum(row.split == split for row in rows) for split in ("train", "dev", "test")]
    assert counts == pytest.approx([6000, 500, 500], rel=0.1)


def test_the_split_is_of_the_content_alone() -> None:
    rows = splits.with_splits([undecided(number) for number in range(50)])
    assert splits.with_splits([undecided(number) for number in reversed(range(50))]) == rows[::-1]
    decided = Row(Path("a.jpg"), "0" * 64, ("A dog",), "held_out")
    assert splits.with_splits([decided]) == [decided]


def test_the_split_is_another_than_that_of_corrections() -> None:
    rows = splits.with_splits([undecided(number) for number in range(2000)])
    positions = [manifest.split_position(row.sha256) for row in rows if row.split == splits.TEST]
    assert max(positions) > 0.9


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("val", "dev"),
        (" Validation ", "dev"),
        ("restval", "train"),
        ("TEST", "test"),
        ("", ""),
        *((split, split) for split in (manifest.TRAIN, manifest.DEV, manifest.HELD_OUT, manifest.BLIND)),
    ],
)
def test_names(word: str, expected: str) -> None:
    assert splits.split_named(word) == expected


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="there is no split 'rest'; known are train, "):
        splits.split_named("rest")
