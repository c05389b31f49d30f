"""Cleaning: captions and copies."""

from pathlib import Path

import pytest

from training.data.datasets.cleaning import clean_captions, merge_copies, tidy
from training.data.manifest import Row


def row(name: str, *captions: str, split: str = "train", content: str = "", **more: float) -> Row:
    return Row(Path(f"{name}.jpg"), content or name, captions, split, **more)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  A  dog\truns .\r\n", "A dog runs ."),
        ("A\x00dog\x85runs\u2028far\ufeff", "A dog runs far"),
        ("half a pair \ud83d", "half a pair"),
        ("ein Kätzchen 🐈", "ein Kätzchen 🐈"),
    ],
)
def test_tidy(text: str, expected: str) -> None:
    assert tidy(text) == expected


def test_empty_captions(caplog: pytest.LogCaptureFixture) -> None:
    rows = clean_captions([row("a", "A dog", "", "x", "...", "A dog"), row("b", " ", ". - !", "🐈🐈"), row("c")])
    assert [each.references for each in rows] == [("A dog", "A dog")], "two people may say the same"
    assert caplog.messages == [
        "Left out 3 of 8 captions, without a word or of one character: '' of a.jpg; 'x' of a.jpg; '...' of a.jpg.",
        "Left out 2 of 3 images: b.jpg has no captions; c.jpg has no captions.",
    ]


def test_a_split_that_was_published_without_captions_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    rows = [row("a", "A dog"), row("b", split="test"), row("c", split="test")]
    assert clean_captions(rows) == rows
    assert not caplog.messages


@pytest.mark.parametrize(
    ("splits", "stays"),
    [
        (("train", "dev"), "dev"),
        (("dev", "train"), "dev"),
        (("dev", "test", "train"), "test"),
        (("train", "held_out", "dev"), "held_out"),
        (("held_out", "test"), "test"),
    ],
)
def test_of_an_image_in_several_splits_the_copy_for_evaluation_stays(
    splits: tuple[str, ...], stays: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = merge_copies([row(split, "A dog", split=split, content="same") for split in splits])
    assert [each.split for each in rows] == [stays]
    (message,) = caplog.messages
    assert message.startswith(f"Left out {len(splits) - 1} of {len(splits)} images, which another split contains too: ")
    assert f"is {stays}.jpg ({stays})" in message


def test_copies_within_a_split_become_one_row_in_its_place(caplog: pytest.LogCaptureFixture) -> None:
    rows = merge_copies(
        [
            row("a", "A dog", "A dog", content="same"),
            row("b", "A cat"),
            row("c", "A dog", "A hound", content="same", weight=3.0),
        ]
    )
    assert rows == [row("a", "A dog", "A dog", "A hound", content="same", weight=3.0), row("b", "A cat")]
    assert caplog.messages == [
        "Merged 1 of 3 images into another of their split with the same content: c.jpg is a.jpg."
    ]


def test_images_to_be_captioned_are_all_kept(caplog: pytest.LogCaptureFixture) -> None:
    rows = [row("a", split="test", content="same"), row("b", split="test"), row("c", split="test", content="same")]
    assert merge_copies(rows) == rows
    assert not caplog.messages
