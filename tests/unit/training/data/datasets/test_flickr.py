"""Flickr8k and Flickr30k in the files of their authors and in those of Kaggle."""

from collections.abc import Callable
from pathlib import Path

import pytest

from training.data import datasets
from training.data.manifest import Row
from training.errors import DataError

Photo = Callable[[Path], Path]


def contents(rows: list[Row]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(row.image_id, row.split, row.references) for row in rows]


@pytest.fixture(params=["images", "Flicker8k_Dataset", "Flickr8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset"])
def flickr8k(tmp_path: Path, photo: Photo, request: pytest.FixtureRequest) -> Path:
    """The authors' files: 1_a and 2_b train, 3_c dev; 4_d in no list."""
    for name in ("1_a", "2_b", "3_c", "4_d"):
        photo(tmp_path / request.param / f"{name}.jpg")
    lines = [f"{name}.jpg#{n}\tA dog {name} {n} .\n" for name in ("1_a", "2_b", "3_c", "4_d") for n in range(5)]
    (tmp_path / "Flickr8k.token.txt").write_text("".join(lines))
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("1_a.jpg\n2_b.jpg\nwithout captions.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("3_c.jpg\n")
    return tmp_path


def test_flickr8k_of_its_authors(flickr8k: Path) -> None:
    rows = datasets.read("flickr8k", flickr8k)
    assert [(row.image_id, row.split) for row in rows] == [("1_a", "train"), ("2_b", "train"), ("3_c", "dev")]
    assert rows[0].references == tuple(f"A dog 1_a {number} ." for number in range(5))


def test_texts_in_their_own_folder(flickr8k: Path) -> None:
    texts = flickr8k / "Flickr8k_text"
    texts.mkdir()
    for path in list(flickr8k.glob("*.txt")):
        path.rename(texts / path.name)
    assert len(datasets.read("flickr8k", flickr8k)) == 3


def test_lists_may_lie_above_the_texts(flickr8k: Path) -> None:
    (flickr8k / "Flickr8k_text").mkdir()
    (flickr8k / "Flickr8k.token.txt").rename(flickr8k / "Flickr8k_text" / "Flickr8k.token.txt")
    assert len(datasets.read("flickr8k", flickr8k)) == 3


def test_a_caption_may_hold_a_line_separator(flickr8k: Path) -> None:
    texts = flickr8k / "Flickr8k.token.txt"
    texts.write_text(texts.read_text().replace("A dog 1_a 0", "A\u2028dog\x85a  0"))
    assert datasets.read("flickr8k", flickr8k)[0].references[0] == "A dog a 0 ."


def test_missing_files_are_named(flickr8k: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match=r"Flickr8k needs Flickr8k\.token\.txt or .*captions\.txt in .*which is empty"):
        datasets.read("flickr8k", empty)
    with pytest.raises(DataError, match="which is not there"):
        datasets.read("flickr8k", empty / "nowhere")
    with pytest.raises(DataError, match="which is not a folder"):
        datasets.read("flickr8k", flickr8k / "Flickr8k.token.txt")
    (empty / "Flickr8k.token.txt").write_text("a.jpg#0\tA dog .\n")
    with pytest.raises(DataError, match=r"needs images or .* which holds Flickr8k\.token\.txt"):
        datasets.read("flickr8k", empty)
    (flickr8k / "Flickr8k.token.txt").write_text("a.jpg no tab\n")
    with pytest.raises(DataError, match="Line 1"):
        datasets.read("flickr8k", flickr8k)
    (flickr8k / "Flickr8k.token.txt").write_text("z.jpg#0\tA zebra .\n")
    with pytest.raises(DataError, match=r"Flickr_8k\.trainImages\.txt"):
        datasets.read("flickr8k", flickr8k)
    (flickr8k / "Flickr8k.token.txt").write_bytes(b"z.jpg#0\t\xff\xfe\n")
    with pytest.raises(DataError, match="cannot be read"):
        datasets.read("flickr8k", flickr8k)


@pytest.fixture
def kaggle8k(tmp_path: Path, photo: Photo) -> Path:
    for name in ("1_a", "2_b"):
        photo(tmp_path / "Images" / f"{name}.jpg")
    (tmp_path / "captions.txt").write_text(
        "image,caption\n"
        "1_a.jpg,A child in a pink dress .\n"
        '1_a.jpg,"A man , a ""plan"" , a canal ."\n'
        "2_b.jpg,Two dogs , unquoted .\n"
    )
    return tmp_path


def test_flickr8k_of_kaggle_is_split_by_content(kaggle8k: Path) -> None:
    rows = datasets.read("flickr8k", kaggle8k)
    assert [(row.image_id, row.references) for row in rows] == [
        ("1_a", ("A child in a pink dress .", 'A man , a "plan" , a canal .')),
        ("2_b", ("Two dogs , unquoted .",)),
    ]
    assert {row.split for row in rows} <= {"train", "dev", "test"}
    assert datasets.read("flickr8k", kaggle8k) == rows


def test_flickr8k_of_kaggle_with_lists(kaggle8k: Path) -> None:
    (kaggle8k / "Flickr_8k.testImages.txt").write_text("2_b.jpg\n")
    assert contents(datasets.read("flickr8k", kaggle8k)) == [("2_b", "test", ("Two dogs , unquoted .",))]


RESULTS = (
    "image_name| comment_number| comment\n"
    "1000092795.jpg| 0| Two young guys | with shaggy hair .\n"
    '1000092795.jpg| 1| Two " young , White males .\n'
    "2199200615.jpg| 3| A dog plays .\n"
    "2199200615.jpg| 4   A dog runs across the grass .\n"
)


@pytest.mark.parametrize(
    ("texts", "photos"),
    [
        ("", "flickr30k_images"),
        ("", "flickr30k-images"),
        ("", "images"),
        ("flickr30k_images", "flickr30k_images/flickr30k_images"),
        ("flickr30k_images", "flickr30k_images/flickr30k_images/flickr30k_images"),
        ("flickr30k_images/flickr30k_images", "flickr30k_images/flickr30k_images"),
    ],
)
def test_flickr30k_of_kaggle(tmp_path: Path, photo: Photo, texts: str, photos: str) -> None:
    for name in ("1000092795", "2199200615"):
        photo(tmp_path / photos / f"{name}.jpg")
    (tmp_path / texts / "results.csv").write_text(RESULTS)
    rows = datasets.read("flickr30k", tmp_path)
    assert [(row.image_id, row.references) for row in rows] == [
        ("1000092795", ("Two young guys | with shaggy hair .", 'Two " young , White males .')),
        ("2199200615", ("A dog plays .", "A dog runs across the grass .")),
    ]


def test_flickr30k_of_kaggles_other_table(tmp_path: Path, photo: Photo) -> None:
    photo(tmp_path / "Images" / "1000092795.jpg")
    (tmp_path / "captions.txt").write_text("image_name,comment_number,comment\n1000092795.jpg,0,Two , shaggy guys .\n")
    (row,) = datasets.read("flickr30k", tmp_path)
    assert row.references == ("Two , shaggy guys .",)


@pytest.mark.parametrize(
    "line", ["{}, 4   A dog runs , fast .", "{},4   A dog runs , fast .,", "{}, 4, A dog runs , fast ."]
)
def test_a_number_that_is_in_one_field_with_its_comment(tmp_path: Path, photo: Photo, line: str) -> None:
    """In every copy of Kaggle's table the caption of one line stands in the field of its number."""
    photo(tmp_path / "Images" / "2199200615.jpg")
    image = "2199200615.jpg"
    lines = [
        "image_name,comment_number,comment",
        f"{image},3,2 dogs play .",
        line.format(image),
        f'{image},5,"A , dog"',
    ]
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    (row,) = datasets.read("flickr30k", tmp_path)
    assert row.references == ("2 dogs play .", "A dog runs , fast .", "A , dog")


def test_a_number_that_is_none_is_left_as_it_is(tmp_path: Path, photo: Photo) -> None:
    photo(tmp_path / "Images" / "1.jpg")
    (tmp_path / "captions.txt").write_text("image_name,comment_number,comment\n1.jpg,,A dog .\n1.jpg,first,A hound .\n")
    (row,) = datasets.read("flickr30k", tmp_path)
    assert row.references == ("A dog .", "A hound .")


def test_flickr30k_of_its_authors_with_the_lists_of_its_entities(tmp_path: Path, photo: Photo) -> None:
    for name in ("10", "20", "30"):
        photo(tmp_path / "flickr30k-images" / f"{name}.jpg")
    lines = [f"{name}.jpg#{number}\tCaption {number} of {name} .\n" for name in ("10", "20", "30") for number in (0, 1)]
    (tmp_path / "results_20130124.token").write_text("".join(lines))
    for split, name in (("train", "30"), ("val", "10"), ("test", "20")):
        (tmp_path / f"{split}.txt").write_text(f"{name}\n")
    assert contents(datasets.read("flickr30k", tmp_path)) == [
        ("30", "train", ("Caption 0 of 30 .", "Caption 1 of 30 .")),
        ("10", "dev", ("Caption 0 of 10 .", "Caption 1 of 10 .")),
        ("20", "test", ("Caption 0 of 20 .", "Caption 1 of 20 .")),
    ]


def test_wrong_files_of_flickr30k(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Flickr30k needs results_20130124\.token"):
        datasets.read("flickr30k", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "results.csv").write_text(RESULTS + "a line of something else\n")
    with pytest.raises(DataError, match=r"Line 6 of .*results\.csv is not `image\| number\| caption`"):
        datasets.read("flickr30k", tmp_path)
