"""What `read` does to every data set, shown on Flickr8k's files and on manifests."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from training.data import datasets, manifest
from training.data.manifest import Row
from training.errors import DataError


@pytest.fixture
def flickr8k(tmp_path: Path, photo: Callable[[Path], Path]) -> Path:
    """Flickr8k's files in small: a.jpg and b.jpg train, c.jpg dev, no test list."""
    for name in "abc":
        photo(tmp_path / "images" / f"{name}.jpg")
    lines = [f"{name}.jpg#{number}\tA dog {name} {number} .\n" for name in "abc" for number in range(5)]
    (tmp_path / "Flickr8k.token.txt").write_text("".join(lines))
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("a.jpg\nb.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("c.jpg\n")
    return tmp_path


def test_rows_are_of_the_split_and_the_limit(flickr8k: Path) -> None:
    rows = datasets.read("flickr8k", flickr8k)
    assert [(row.image.name, row.split) for row in rows] == [("a.jpg", "train"), ("b.jpg", "train"), ("c.jpg", "dev")]
    assert rows[0].references == tuple(f"A dog a {number} ." for number in range(5))
    assert [row.sha256 for row in rows] == [manifest.hash_file(row.image) for row in rows]
    assert [row.image.name for row in datasets.read("flickr8k", flickr8k, split="dev")] == ["c.jpg"]
    assert [row.image.name for row in datasets.read("flickr8k", flickr8k, limit=1)] == ["a.jpg", "c.jpg"]


def test_missing_and_damaged_images_are_left_out_with_a_warning_each(
    flickr8k: Path, halve: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    (flickr8k / "images" / "a.jpg").unlink()
    halve(flickr8k / "images" / "b.jpg")
    with caplog.at_level(logging.WARNING):
        rows = datasets.read("flickr8k", flickr8k)
    assert [row.image.name for row in rows] == ["c.jpg"]
    assert caplog.messages == [
        "Left out 1 of 3 images: a.jpg cannot be read (No such file or directory).",
        "Left out 1 of 3 images: b.jpg is not a whole image.",
    ]


def test_a_warning_shows_three_examples(
    flickr8k: Path, photo: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        (flickr8k / "Flickr_8k.devImages.txt").open("a") as listing,
        (flickr8k / "Flickr8k.token.txt").open("a") as file,
    ):
        for number in range(5):
            listing.write(f"gone{number}.jpg\n")
            file.write(f"gone{number}.jpg#0\tGone .\n")
    datasets.read("flickr8k", flickr8k)
    assert "Left out 5 of 8 images: gone0.jpg" in caplog.text
    assert "gone2.jpg cannot be read (No such file or directory) and 2 more." in caplog.text


def test_nothing_left(flickr8k: Path) -> None:
    for path in (flickr8k / "images").iterdir():
        path.write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"None of the 3 images .*a\.jpg is not a whole image"):
        datasets.read("flickr8k", flickr8k)


@pytest.mark.parametrize(
    ("name", "split", "limit", "message"),
    [
        ("flickr9k", None, None, "there are flickr8k, flickr30k, coco2014, .*jsonl, csv, label-studio"),
        ("flickr8k", "test", None, "no images of the split 'test'; it has dev, train"),
        ("flickr8k", None, 0, "at least 1"),
    ],
)
def test_wrong_arguments(flickr8k: Path, name: str, split: str | None, limit: int | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        datasets.read(name, flickr8k, split=split, limit=limit)


def test_images_without_splits_are_split_when_their_content_is_known(
    tmp_path: Path, photo: Callable[[Path], Path]
) -> None:
    lines = [f"{photo(tmp_path / f'{number}.jpg').name},A photo\n" for number in range(60)]
    (tmp_path / "photos.csv").write_text("image,caption\n" + "".join(lines))
    rows = datasets.read("csv", tmp_path)
    assert {row.split for row in rows} == {"train", "dev", "test"}
    for split in ("train", "dev", "test"):
        expected = [row for row in rows if row.split == split]
        assert datasets.read("csv", tmp_path, split=split) == expected
        assert datasets.read("csv", tmp_path, split=split, limit=1) == expected[:1]


def test_a_copy_in_another_split_is_left_out_of_training(flickr8k: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = flickr8k / "images"
    (images / "b.jpg").write_bytes((images / "c.jpg").read_bytes())
    assert [row.image.name for row in datasets.read("flickr8k", flickr8k)] == ["a.jpg", "c.jpg"]
    assert caplog.messages == [
        "Left out 1 of 3 images, which another split contains too: b.jpg (train) is c.jpg (dev)."
    ]


def test_jsonl_by_file_and_by_folder(
    tmp_path: Path, photo: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        Row(photo(tmp_path / "one.jpg"), "an old hash", ("a fractal",), manifest.DEV, 2.0, "1", "near"),
        Row(photo(tmp_path / "two.jpg"), "another", ("  ",)),
    ]
    path = manifest.save(rows, tmp_path / "manifest.jsonl")
    for given in (path, tmp_path):
        (row,) = datasets.read("jsonl", given)
        assert (row.sha256, row.split, row.weight) == (manifest.hash_file(row.image), "dev", 2.0)
        assert (row.image_id, row.subset) == ("1", "near")
    assert "Left out 1 of 2 images: two.jpg has no captions." in caplog.text
    with pytest.raises(DataError, match=r"None of the 1 images of .* has a caption"):
        datasets.read("jsonl", path, split="train")
    with pytest.raises(DataError, match=r"nowhere"):
        datasets.read("jsonl", tmp_path / "nowhere.jsonl")


def test_an_image_that_is_missing_and_has_no_hash_is_left_out_of_a_manifest(
    tmp_path: Path, photo: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "a.jpg")
    listed = tmp_path / "manifest.jsonl"
    listed.write_text("".join(f'{{"image": "{name}.jpg", "references": ["A dog"]}}\n' for name in "ab"))
    with caplog.at_level(logging.WARNING):
        (row,) = datasets.read("jsonl", listed)
    assert row.sha256 == manifest.hash_file(tmp_path / "a.jpg")
    assert caplog.messages == ["Left out 1 of 2 images: b.jpg cannot be read (No such file or directory)."]
