"""Karpathy's splits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.data import datasets
from training.errors import DataError

Photo = Callable[[Path], Path]


def entry(name: str, split: str, number: int, **more: Any) -> dict[str, Any]:
    raw = f"A dog {number} runs."
    sentence = {"tokens": ["a", "dog", str(number), "runs"], "raw": raw, "imgid": number, "sentid": number}
    return {"filename": name, "imgid": number, "split": split, "sentids": [number], "sentences": [sentence], **more}


@pytest.fixture
def coco(tmp_path: Path, photo: Photo) -> Path:
    images = []
    for number, (part, split) in enumerate(
        [("train2014", "train"), ("val2014", "restval"), ("val2014", "val"), ("val2014", "test")], start=1
    ):
        name = f"COCO_{part}_{number:012d}.jpg"
        photo(tmp_path / part / name)
        images.append(entry(name, split, number, filepath=part, cocoid=number))
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return tmp_path


def test_coco_by_folder_and_by_file(coco: Path) -> None:
    rows = datasets.read("karpathy", coco)
    assert [(row.image_id, row.split) for row in rows] == [("1", "train"), ("2", "train"), ("3", "dev"), ("4", "test")]
    assert rows[0].references == ("A dog 1 runs.",)
    assert datasets.read("karpathy", coco / "dataset_coco.json") == rows


def test_images_of_coco_in_a_folder_of_their_own(coco: Path, caplog: pytest.LogCaptureFixture) -> None:
    (coco / "images").mkdir()
    (coco / "val2014").rename(coco / "images" / "val2014")
    assert len(datasets.read("karpathy", coco)) == 4
    (coco / "train2014").rename(coco / "away")
    assert [row.image_id for row in datasets.read("karpathy", coco)] == ["2", "3", "4"]
    assert "Left out 1 of 4 images: COCO_train2014_000000000001.jpg cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "photos"),
    [("flickr8k", "Flicker8k_Dataset"), ("flickr30k", "flickr30k-images"), ("flickr30k", "images")],
)
def test_flickr(tmp_path: Path, photo: Photo, dataset: str, photos: str) -> None:
    images = [entry(photo(tmp_path / photos / f"{n}_{n}.jpg").name, "val", n) for n in range(2)]
    del images[1]["sentences"][0]["raw"]
    (tmp_path / f"dataset_{dataset}.json").write_text(json.dumps({"images": images, "dataset": dataset}))
    rows = datasets.read("karpathy", tmp_path)
    assert [(row.image_id, row.split, row.references) for row in rows] == [
        ("0_0", "dev", ("A dog 0 runs.",)),
        ("1_1", "dev", ("a dog 1 runs",)),
    ]


def test_which_file(coco: Path) -> None:
    (coco / "dataset_flickr8k.json").write_text("{}")
    with pytest.raises(DataError, match=r"2 files .* dataset_coco\.json, dataset_flickr8k\.json; name one"):
        datasets.read("karpathy", coco)
    with pytest.raises(DataError, match=r"needs dataset_flickr8k\.json or .* which holds COCO_train2014_"):
        datasets.read("karpathy", coco / "train2014")
    with pytest.raises(DataError, match="the key 'images' is missing"):
        datasets.read("karpathy", coco / "dataset_flickr8k.json")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset": "vizwiz"}, "no Karpathy split of 'vizwiz'"),
        ({"images": [{"filename": "a.jpg", "split": "val"}]}, "the key 'sentences' is missing"),
        ({"images": [entry("a.jpg", "most", 1)]}, "there is no split 'most'; known are train"),
        ({"images": "none"}, "is not a split of Karpathy's"),
    ],
)
def test_damaged_files(coco: Path, changed: dict[str, Any], message: str) -> None:
    path = coco / "dataset_coco.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(DataError, match=message):
        datasets.read("karpathy", coco)
