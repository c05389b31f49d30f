"""Label Studio's exports JSON and JSON-MIN."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.data import datasets
from training.data.manifest import Row
from training.errors import DataError

Photo = Callable[[Path], Path]


def result(*texts: str, name: str = "caption", **place: float) -> dict[str, Any]:
    value = {"text": list(texts), **place}
    return {"id": "x1", "from_name": name, "to_name": "image", "type": "textarea", "origin": "manual", "value": value}


def annotation(*results: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": 1, "completed_by": 1, "result": list(results), "was_cancelled": False, "ground_truth": False} | fields


def task(number: int, image: str | None, *annotations: dict[str, Any]) -> dict[str, Any]:
    data = {"title": "holiday", "photo": image} if image else {"title": "holiday"}
    more = {"drafts": [], "predictions": [], "meta": {}, "file_upload": None, "project": 1}
    return {"id": number, "annotations": list(annotations), "data": data, **more}


def read(folder: Path, exported: Any) -> list[Row]:
    (folder / "project-1-at-2026-01-01.json").write_text(json.dumps(exported))
    return datasets.read("label-studio", folder)


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/data/upload/1/0a1b2c3d-my%20photo.jpg", "images/0a1b2c3d-my photo.jpg"),
        ("/data/upload/1/0a1b2c3d-photo.jpg", "photos/of/me/photo.jpg"),
        ("/data/upload/1/0a1b2c3d-photo.jpg", "upload/1/0a1b2c3d-photo.jpg"),
        ("http://localhost:8080/data/upload/1/0a1b2c3d-photo.jpg", "0a1b2c3d-photo.jpg"),
        ("/data/local-files/?d=photos/a%20b.jpg", "photos/a b.jpg"),
        ("http://localhost:8080/data/local-files/?d=photos\\1.jpg", "1.jpg"),
        ("photos/1.jpg", "photos/1.jpg"),
    ],
)
def test_where_images_are(tmp_path: Path, photo: Photo, address: str, file: str) -> None:
    photo(tmp_path / file)
    (row,) = read(tmp_path, [task(7, address, annotation(result("A dog", "A hound")))])
    assert (row.image, row.image_id, row.references) == (tmp_path / file, "7", ("A dog", "A hound"))


def test_images_may_be_nested_in_the_data(tmp_path: Path, photo: Photo) -> None:
    photo(tmp_path / "1.jpg")
    nested = task(7, None, annotation(result("A dog"))) | {"data": {"pages": [{"title": "one", "page": "1.jpg"}]}}
    assert [row.image for row in read(tmp_path, [nested])] == [tmp_path / "1.jpg"]


def test_the_path_decides_between_files_of_one_name(tmp_path: Path, photo: Photo) -> None:
    for folder in ("a", "b", "c/a"):
        photo(tmp_path / folder / "1.jpg")
    (row,) = read(tmp_path, [task(1, "/data/local-files/?d=a/1.jpg", annotation(result("A dog")))])
    assert row.image == tmp_path / "a" / "1.jpg"
    with pytest.raises(DataError, match="None of the images of the 1 tasks"):
        read(tmp_path, [task(1, "/data/local-files/?d=elsewhere/1.jpg", annotation(result("A dog")))])


def test_which_annotations_count(tmp_path: Path, photo: Photo) -> None:
    for number in range(5):
        photo(tmp_path / "images" / f"{number}.jpg")
    choice = {"from_name": "fault", "to_name": "image", "type": "choices", "value": {"choices": ["nothing"]}}
    relation = {"from_id": "a", "to_id": "b", "type": "relation"}
    region = result("a tail", x=1.0, y=2.0, width=3.0, height=4.0)
    rows = read(
        tmp_path,
        [
            task(0, "0.jpg", annotation(result("One"), choice), annotation(relation, result("Two"), region)),
            task(1, "1.jpg", annotation(result("Skipped"), was_cancelled=True), annotation(result("Given"))),
            task(2, "2.jpg", annotation(result("Said")), annotation(result("True"), ground_truth=True)),
            task(3, "3.jpg", annotation(result("Note", name="notes"), result("Caption"))),
            task(4, "4.jpg", annotation(result=None), annotation(result("Last"))),
        ],
    )
    assert [row.references for row in rows] == [("One", "Two"), ("Given",), ("True",), ("Caption",), ("Last",)]


def test_what_is_left_out_is_logged(tmp_path: Path, photo: Photo, caplog: pytest.LogCaptureFixture) -> None:
    photo(tmp_path / "images" / "1.jpg")
    photo(tmp_path / "images" / "5.jpg")
    rows = read(
        tmp_path,
        [
            task(1, "/data/upload/1/1.jpg", annotation(result("A dog"))),
            task(2, "https://example.org/2.jpg", annotation(result("A cat"))),
            task(3, "/data/upload/1/3.jpg", annotation(result("A cow"))),
            task(4, None, annotation(result("A pig"))),
            task(5, "/data/upload/1/5.jpg"),
        ],
    )
    assert [row.image_id for row in rows] == ["1"]
    assert caplog.messages == [
        "Left out 1 of 5 tasks: task 4 names no image.",
        "Left out 1 of 5 tasks, because images on the web are not downloaded: task 2 has https://example.org/2.jpg.",
        f"Left out 1 of 5 tasks: 1/3.jpg of task 3 is not in {tmp_path}.",
        "Left out 1 of 2 images: 5.jpg has no captions.",
    ]


def minimal(number: int, image: str, **given: Any) -> dict[str, Any]:
    after = {"annotator": 1, "annotation_id": 3, "created_at": "…", "updated_at": "…", "lead_time": 2.5}
    return {"image": image, "source": "my phone", "id": number, **given, **after}


def test_json_min(tmp_path: Path, photo: Photo) -> None:
    for number in range(3):
        photo(tmp_path / "images" / f"{number}.jpg")
    rows = read(
        tmp_path,
        [
            minimal(1, "/data/upload/1/0.jpg", caption="A dog", fault="nothing"),
            minimal(1, "/data/upload/1/0.jpg", caption={"text": ["A hound", "A pet"]}, fault={"choices": ["a", "b"]}),
            minimal(2, "/data/upload/1/1.jpg", caption=["A cat", {"text": ["Two", "cats"]}]),
            minimal(3, "/data/upload/1/2.jpg"),
        ],
    )
    assert [(row.image_id, row.references) for row in rows] == [
        ("1", ("A dog", "A hound", "A pet")),
        ("2", ("A cat", "Two", "cats")),
    ]


@pytest.mark.parametrize(
    ("exported", "message"),
    [
        ([task(1, "1.jpg")], "holds no captions"),
        ([task(1, "1.jpg", annotation(result("a", name="one"), result("b", name="two")))], "several texts, one, two"),
        ([{"image": "1.jpg"}], "neither `annotations` nor an `annotator`"),
        ([{"annotations": []}], "the key 'id' is missing"),
        ({"images": []}, "is not Label Studio's export"),
        (5, "is not Label Studio's export"),
        ([task(1, "1.jpg", annotation(result("A dog")))], "None of the images of the 1 tasks"),
    ],
)
def test_wrong_exports(tmp_path: Path, exported: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, exported)
