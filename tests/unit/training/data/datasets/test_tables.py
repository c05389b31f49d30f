"""CSV files of images and captions."""

from collections.abc import Callable
from pathlib import Path

import pytest

from training.data import datasets
from training.errors import DataError

Photo = Callable[[Path], Path]


@pytest.mark.parametrize("header", ["image,caption,split", "file_name,text,split", "\ufeffFilename, Caption ,SPLIT"])
@pytest.mark.parametrize("folder", ["", "images"])
def test_columns_and_folders(tmp_path: Path, photo: Photo, header: str, folder: str) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path / folder / name)
    (tmp_path / "mine.csv").write_text(
        f'{header}\na.jpg,"A dog, running",train\nb.jpg,"A\ncat",validation\n\na.jpg,A hound,train\n', "utf-8"
    )
    for given in (tmp_path, tmp_path / "mine.csv"):
        rows = datasets.read("csv", given)
        assert [(row.image_id, row.split, row.references) for row in rows] == [
            ("a", "train", ("A dog, running", "A hound")),
            ("b", "dev", ("A cat",)),
        ]
        assert rows[0].image == tmp_path / folder / "a.jpg"


def test_absolute_images_without_a_split(tmp_path: Path, photo: Photo) -> None:
    image = photo(tmp_path / "far" / "a.jpg")
    (tmp_path / "mine.csv").write_text(f"caption,image_path\nA dog,{image}\n")
    (row,) = datasets.read("csv", tmp_path / "mine.csv")
    assert row.image == image
    assert row.split in {"train", "dev", "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the columns image and caption"),
        ("picture,words\na.jpg,A dog\n", r"needs the columns image and caption; its first line is 'picture,words'"),
        ("image,caption\n", "holds no captions"),
        ("image,caption\na.jpg,A dog\na.jpg\n", r"Line 3 of .*mine\.csv is not image,caption"),
        ("image,caption\n,A dog\n", "Line 2"),
        ("image,caption,split\na.jpg,A, dog,train\n", "Line 2 of .* is not image,caption,split"),
        ("image,caption,split\na.jpg,A dog,some\n", "Line 2 of .* cannot be placed: there is no split 'some'"),
        ("image,caption,split\na.jpg,A dog,dev\na.jpg,A cat,test\n", "Line 3 of .* another split"),
        ('image,caption\na.jpg,"' + "A dog " * 30_000, "cannot be read as a table: field larger"),
        ("image,caption\n" + "a" * 5000 + ".jpg,A dog\n", "cannot be read"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        datasets.read("csv", tmp_path)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A CSV data set needs \*\.csv in .* which is empty"):
        datasets.read("csv", tmp_path)
    (tmp_path / "mine.csv").write_bytes(b"image,caption\na.jpg,\xff\xff\n")
    with pytest.raises(DataError, match="cannot be read as a table"):
        datasets.read("csv", tmp_path)
    (tmp_path / "yours.csv").write_text("")
    with pytest.raises(DataError, match=r"mine\.csv, yours\.csv; name one"):
        datasets.read("csv", tmp_path)
