"""Results as COCO's tools read them."""

import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from training.data.datasets import coco
from training.data.manifest import Row
from training.errors import DataError


def rows() -> list[Row]:
    return [
        Row(Path("COCO_val2014_000000000042.jpg"), "1", ("A shoe.", "Ein Schuh – größer"), "dev", image_id="42"),
        Row(Path("b/007.jpg"), "2", ("A spy.",), "dev", image_id="007"),
        Row(Path("1000_2.jpg"), "3", (), "dev"),
    ]


def test_results(tmp_path: Path) -> None:
    path = coco.export(rows(), ["a shoe", "a spy", ""], tmp_path / "results.json")
    assert json.loads(path.read_text()) == [
        {"image_id": 42, "caption": "a shoe"},
        {"image_id": "007", "caption": "a spy"},
        {"image_id": "1000_2", "caption": ""},
    ]
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_pycocotools_reads_the_results(tmp_path: Path) -> None:
    references = tmp_path / "references.json"
    ids = [42, "007", "1000_2"]
    references.write_text(json.dumps({"images": [{"id": image_id} for image_id in ids], "annotations": []}))
    listed = COCO(str(references))
    results = listed.loadRes(str(coco.export(rows(), ["a shoe", "a spy", "a dog"], tmp_path / "results.json")))
    assert {key: results.imgToAnns[key][0]["caption"] for key in results.getImgIds() if results.imgToAnns[key]} == {
        42: "a shoe",
        "007": "a spy",
        "1000_2": "a dog",
    }


def test_an_id_is_of_one_image(tmp_path: Path) -> None:
    twice = [Row(Path("a/1.jpg"), "1", ()), Row(Path("b/1.jpg"), "2", ())]
    with pytest.raises(DataError, match=r"a/1\.jpg and b/1\.jpg have the same id 1"):
        coco.export(twice, ["a", "b"], tmp_path / "results.json")
    with pytest.raises(ValueError, match="shorter"):
        coco.export(rows(), ["a shoe"], tmp_path / "results.json")
    assert not list(tmp_path.iterdir())
