"""COCO's captions and nocaps."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from training.data import datasets
from training.errors import DataError

Photo = Callable[[Path], Path]


def captions(photos: Path, year: int, names: dict[int, Sequence[str]], photo: Photo) -> dict[str, Any]:
    """A listing of COCO, with its images; the annotations are in no order."""
    prefix = f"COCO_{photos.name}_" if year == 2014 else ""
    images = [{"id": number, "file_name": f"{prefix}{number:012d}.jpg", "height": 45, "width": 60} for number in names]
    for image in images:
        photo(photos / str(image["file_name"]))
    annotated = [{"image_id": number, "caption": text} for number, texts in names.items() for text in texts]
    annotations = [
        {"id": 100 + count, **each} for count, each in enumerate(sorted(annotated, key=lambda x: x["caption"]))
    ]
    return {"info": {}, "licenses": [], "type": "captions", "images": images, "annotations": annotations}


@pytest.fixture(params=["", "images"])
def coco(tmp_path: Path, photo: Photo, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "annotations").mkdir()
    for year in (2014, 2017):
        for part, names in (("train", {9: ["A bowl.\n", "Food "]}), ("val", {42: ["A shoe."], 73: ["A motorbike."]})):
            listing = captions(tmp_path / request.param / f"{part}{year}", year, names, photo)
            (tmp_path / "annotations" / f"captions_{part}{year}.json").write_text(json.dumps(listing))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "first"), [("coco2014", "COCO_train2014_000000000009.jpg"), ("coco2017", "000000000009.jpg")]
)
def test_coco(coco: Path, name: str, first: str) -> None:
    rows = datasets.read(name, coco)
    assert [(row.image_id, row.split, row.references) for row in rows] == [
        ("9", "train", ("A bowl.", "Food")),
        ("42", "dev", ("A shoe.",)),
        ("73", "dev", ("A motorbike.",)),
    ]
    assert rows[0].image.name == first


def test_a_part_without_images_is_left_out(coco: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = next(path for path in (coco / "train2017", coco / "images" / "train2017") if path.exists())
    photos.rename(coco / "elsewhere")
    with caplog.at_level(logging.WARNING):
        rows = datasets.read("coco2017", coco)
    assert [row.split for row in rows] == ["dev", "dev"]
    assert caplog.messages == [
        f"Left out the split train of COCO 2017: neither train2017 nor images/train2017 is in {coco}."
    ]
    (coco / "annotations" / "captions_val2017.json").unlink()
    with pytest.raises(DataError, match="COCO 2017 needs train2017 or images/train2017 in"):
        datasets.read("coco2017", coco)


def test_an_image_without_captions_is_left_out(coco: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = coco / "annotations" / "captions_val2014.json"
    listing = json.loads(path.read_text())
    listing["annotations"] = [each for each in listing["annotations"] if each["image_id"] != 42]
    path.write_text(json.dumps(listing))
    assert [row.image_id for row in datasets.read("coco2014", coco, split="dev")] == ["73"]
    assert "Left out 1 of 2 images: COCO_val2014_000000000042.jpg has no captions." in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not whole JSON"),
        ("[" * 100_000, "is not whole JSON"),
        ("[]", "is not an annotation file as COCO's"),
        ('{"images": [{"id": 1}], "annotations": []}', "the key 'file_name' is missing"),
        ('{"images": [], "annotations": [{"image_id": 1, "caption": null}]}', "'None' is not a text"),
        ('{"images": [], "annotations": []}', "lists no images"),
    ],
)
def test_damaged_listings(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "val2017").mkdir()
    (tmp_path / "captions_val2017.json").write_text(content)
    with pytest.raises(DataError, match=message):
        datasets.read("coco2017", tmp_path)


def test_no_listing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"COCO 2014 needs annotations/captions_train2014\.json or .* which is empty"):
        datasets.read("coco2014", tmp_path)


def nocaps_images(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "open_images_id": f"{number:016x}",
            "height": 45,
            "width": 60,
            "coco_url": f"https://s3.amazonaws.com/nocaps/{number:016x}.jpg",
            "file_name": f"{number:016x}.jpg",
            "license": 0,
            "date_captured": "2018-11-06 11:04:33",
            **more,
        }
        for number in range(count)
    ]


@pytest.mark.parametrize(("val", "test"), [("val", "test"), ("validation", "test"), ("images", "images/test")])
def test_nocaps(tmp_path: Path, photo: Photo, val: str, test: str, caplog: pytest.LogCaptureFixture) -> None:
    published = nocaps_images(2, domain="in-domain") + nocaps_images(3, domain="out-domain")[2:]
    annotated = [{"id": n, "image_id": n % 3, "caption": f"A horse {n}."} for n in range(30)]
    for folder, images in ((val, published), (test, nocaps_images(2))):
        for image in images:
            photo(tmp_path / folder / image["file_name"])
    (tmp_path / "nocaps_val_4500_captions.json").write_text(json.dumps({"images": published, "annotations": annotated}))
    (tmp_path / "nocaps_test_image_info.json").write_text(json.dumps({"images": nocaps_images(2)}))
    rows = datasets.read("nocaps", tmp_path)
    assert [(row.image_id, row.split, row.subset, len(row.references)) for row in rows] == [
        ("0", "dev", "in-domain", 10),
        ("1", "dev", "in-domain", 10),
        ("2", "dev", "out-domain", 10),
        ("0", "test", "", 0),
        ("1", "test", "", 0),
    ]
    assert not caplog.messages
    assert len(datasets.read("nocaps", tmp_path, split="test", limit=1)) == 1
