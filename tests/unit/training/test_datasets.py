import logging
from pathlib import Path

import pytest
from PIL import Image

from training import datasets, manifest
from training.errors import DataError
from training.manifest import Row


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_mandelbrot((120, 90), (-2, -1, 1, 1), 20 + shade).save(path)
    return path


@pytest.fixture(params=["images", "Flicker8k_Dataset", "Flickr8k_Dataset"])
def flickr8k(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Flickr8k's files in small: a.jpg and b.jpg train, c.jpg dev, no test list."""
    for shade, name in enumerate("abc"):
        picture(tmp_path / request.param / f"{name}.jpg", shade)
    lines = [f"{name}.jpg#{number}\tA dog {name} {number} .\n" for name in "abc" for number in range(5)]
    (tmp_path / "Flickr8k.token.txt").write_text("".join(lines))
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("a.jpg\nb.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("c.jpg\n")
    return tmp_path


def images_of(data_dir: Path) -> Path:
    return next(path for path in data_dir.iterdir() if path.is_dir())


def test_flickr8k(flickr8k: Path) -> None:
    rows = datasets.read("flickr8k", flickr8k)
    assert [(row.image.name, row.split) for row in rows] == [("a.jpg", "train"), ("b.jpg", "train"), ("c.jpg", "dev")]
    assert rows[0].references == tuple(f"A dog a {number} ." for number in range(5))
    assert [row.sha256 for row in rows] == [manifest.hash_file(row.image) for row in rows]
    assert [row.image.name for row in datasets.read("flickr8k", flickr8k, split="dev")] == ["c.jpg"]
    assert [row.image.name for row in datasets.read("flickr8k", flickr8k, limit=1)] == ["a.jpg", "c.jpg"]


def test_texts_in_their_own_folder(flickr8k: Path) -> None:
    texts = flickr8k / "Flickr8k_text"
    texts.mkdir()
    for path in list(flickr8k.glob("*.txt")):
        path.rename(texts / path.name)
    assert len(datasets.read("flickr8k", flickr8k)) == 3


def test_missing_and_damaged_images_are_left_out_with_one_warning(
    flickr8k: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = images_of(flickr8k)
    (images / "a.jpg").unlink()
    whole = (images / "b.jpg").read_bytes()
    (images / "b.jpg").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        rows = datasets.read("flickr8k", flickr8k)
    assert [row.image.name for row in rows] == ["c.jpg"]
    (record,) = caplog.records
    assert "2 of 3" in record.getMessage()
    assert "a.jpg cannot be read" in record.getMessage()
    assert "b.jpg is not a whole image" in record.getMessage()


def test_nothing_left(flickr8k: Path) -> None:
    for path in images_of(flickr8k).iterdir():
        path.write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"None of the 3 images .*a\.jpg is not a whole image"):
        datasets.read("flickr8k", flickr8k)


@pytest.mark.parametrize(
    ("name", "split", "limit", "said"),
    [
        ("flickr9k", None, None, "flickr8k, jsonl"),
        ("flickr8k", "test", None, "it has dev, train"),
        ("flickr8k", None, 0, "at least 1"),
    ],
)
def test_wrong_questions(flickr8k: Path, name: str, split: str | None, limit: int | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        datasets.read(name, flickr8k, split=split, limit=limit)


def test_missing_files_are_named(flickr8k: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(DataError, match=r"Flickr8k\.token\.txt"):
        datasets.read("flickr8k", tmp_path_factory.mktemp("empty"))
    (flickr8k / "Flickr8k.token.txt").write_text("a.jpg no tab\n")
    with pytest.raises(DataError, match="Line 1"):
        datasets.read("flickr8k", flickr8k)
    (flickr8k / "Flickr8k.token.txt").write_text("z.jpg#0\tA zebra .\n")
    with pytest.raises(DataError, match=r"Flickr_8k\.trainImages\.txt"):
        datasets.read("flickr8k", flickr8k)


def test_jsonl_by_file_and_by_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        Row(picture(tmp_path / "one.png"), "an old hash", ("a fractal",), manifest.DEV, 2.0),
        Row(picture(tmp_path / "two.png", 1), "another", ("  ",)),
    ]
    path = manifest.save(rows, tmp_path / "manifest.jsonl")
    for given in (path, tmp_path):
        (row,) = datasets.read("jsonl", given)
        assert (row.sha256, row.split, row.weight) == (manifest.hash_file(row.image), "dev", 2.0)
    assert "two.png has no captions" in caplog.text
    with pytest.raises(DataError, match=r"nowhere"):
        datasets.read("jsonl", tmp_path / "nowhere.jsonl")


def test_a_caption_may_hold_a_line_separator(flickr8k: Path) -> None:
    texts = flickr8k / "Flickr8k.token.txt"
    texts.write_text(texts.read_text().replace("A dog a 0", "A\u2028dog\x85a 0"))
    assert "A\u2028dog\x85a 0 ." in datasets.read("flickr8k", flickr8k)[0].references
