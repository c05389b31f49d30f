"""What `captioner export` writes, and that the readers of `captioner train` take it."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from backend.cli.main import main
from backend.domain.corrections import Event, Task
from backend.domain.splits import is_blind, split_of
from backend.store.store import Store
from tests.factories import correction, draft, picture, settings
from training.data import datasets, manifest


@pytest.fixture(autouse=True)
def some_are_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the images is blind, so that forty are of all four splits."""
    monkeypatch.setenv("CAPTIONER_BLIND_SHARE", "0.1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A project of forty captioned images, of which tasks 1 to 40 show one each."""
    store = Store(settings(tmp_path / "data").database_url)
    store.migrate()
    hashes = {}
    for number in range(1, 41):
        content = picture((number, 7, 9))
        sha256 = hashlib.sha256(content).hexdigest()
        path = tmp_path / "data" / "images" / sha256[:2] / f"{sha256}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        hashes[_source(number)] = sha256
    blind = {number for number in range(1, 41) if is_blind(hashes[_source(number)], 0.1)}
    store.add_drafts(1, [draft(number, text="" if number in blind else f"draft {number}") for number in range(1, 41)])
    record(store, *(correction(number, f"Bild {number}, größer") for number in range(1, 41)))
    store.add_image_hashes(1, hashes)
    return store


def _source(number: int) -> str:
    return f"/data/upload/1/{number}.jpg"


def record(store: Store, *corrections: Any, **fields: Any) -> None:
    shown = tuple(Task(each.task_id, each.project_id, _source(each.task_id)) for each in corrections)
    store.record(Event("ANNOTATION_CREATED", 1, corrections, shown, **fields))


def run(tmp_path: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", "--data-dir", str(tmp_path / "data"), *map(str, arguments)])


def exported(tmp_path: Path, out: Path, *arguments: object) -> str:
    result = run(tmp_path, "--project", 1, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    return out.read_text(encoding="utf-8")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line]


def test_a_line_tells_all_of_an_annotation_and_its_draft(tmp_path: Path, store: Store) -> None:
    rows = lines(exported(tmp_path, tmp_path / "out" / "pairs.jsonl"))
    assert [row["annotation"] for row in rows] == list(range(1, 41))
    content = picture((4, 7, 9))
    sha256 = hashlib.sha256(content).hexdigest()
    assert rows[3] == {
        "image": str(tmp_path / "data" / "images" / sha256[:2] / f"{sha256}.png"),
        "sha256": sha256,
        "references": ["Bild 4, größer"],
        "split": split_of(sha256, 0.1),
        "weight": 1.0,
        "typed": ["Bild 4, größer"],
        "draft": "draft 4",
        "draft_version": "v1",
        "accepted": False,
        "origin": None,
        "state": "current",
        "project": 1,
        "task": 4,
        "annotation": 4,
        "annotator": None,
        "reasons": [],
        "hints": [],
        "lead_time_seconds": None,
        "created_at": None,
        "updated_at": "2026-01-01T00:00:00+00:00",
        "source": "/data/upload/1/4.jpg",
    }
    assert {row["split"] for row in rows} == {"train", "dev", "held_out", "blind"}
    assert not list((tmp_path / "out").glob(".*")), "nothing unfinished"


def test_the_split_is_the_one_that_the_image_has_had_from_the_start(tmp_path: Path, store: Store) -> None:
    hashes = [each.image_sha256 for each in store.corrections(1)]
    store.place(1, [each for each in hashes if each], 1.0)
    rows = lines(exported(tmp_path, tmp_path / "pairs.jsonl"))
    assert {(row["draft"] == "", row["split"]) for row in rows} == {(True, "blind"), (False, "held_out")}


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_training_reads_it_as_it_is(tmp_path: Path, store: Store, form: str) -> None:
    record(store, correction(90, "an image nobody has fetched"), correction(3, "", 5), correction(4, "reworded", 5))
    out = tmp_path / f"pairs.{form}"
    text = exported(tmp_path, out, "--format", form, "--all")
    assert "Bild 4, größer" in text, "as it was typed at first"
    rows = datasets.read(form, out)
    told = {row.sha256: (row.split, row.references) for row in rows}
    expected = {}
    for number in (n for n in range(1, 41) if n != 3):
        sha256 = hashlib.sha256(picture((number, 7, 9))).hexdigest()
        expected[sha256] = (split_of(sha256, 0.1), ("reworded" if number == 4 else f"Bild {number}, größer",))
    assert told == expected


def test_a_folder_of_images_beside_the_file_can_be_carried_away(tmp_path: Path, store: Store) -> None:
    carried = tmp_path / "carried"
    exported(tmp_path, carried / "pairs.jsonl", "--images", carried / "images")
    shutil.rmtree(tmp_path / "data")
    carried.rename(tmp_path / "elsewhere")
    rows = datasets.read("jsonl", tmp_path / "elsewhere" / "pairs.jsonl")
    assert len(rows) == 40
    assert all(row.image.stem == row.sha256 for row in rows)


def test_images_that_are_not_here_come_from_the_store(tmp_path: Path, store: Store) -> None:
    (tmp_path / "data" / "images").rename(tmp_path / "kept")
    asked = ("--images", tmp_path / "copies", "--images-url", tmp_path / "kept")
    exported(tmp_path, tmp_path / "pairs.jsonl", *asked)
    assert len(list((tmp_path / "copies").iterdir())) == 40


def test_a_table_has_a_line_for_each_caption(tmp_path: Path, store: Store) -> None:
    both = ("a red box", "a box, red")
    typed = ("a  red box\n", "a box, red")
    said = {"reasons": ("object", "count"), "hints": ("red box", "A red")}
    record(store, correction(1, second=9, texts=both, typed=typed, origin="prediction", **said))
    with (tmp_path / "pairs.csv").open("w"):
        pass
    exported(tmp_path, tmp_path / "pairs.csv", "--format", "csv", "--force")
    with (tmp_path / "pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 41
    assert [(row["annotation"], row["caption"], row["typed"]) for row in rows[:2]] == [
        ("1", "a red box", "a  red box\n"),
        ("1", "a box, red", "a box, red"),
    ]
    assert [row["accepted"] for row in rows[:3]] == ["true", "true", "false"]
    assert [row["reasons"] for row in rows[1:3]] == ["object; count", ""]
    assert [row["hints"] for row in rows[1:3]] == ["red box; A red", ""]
    assert [row["weight"] for row in rows[:3]] == ["0.5", "0.5", "1.0"]


@pytest.mark.parametrize("copied", [True, False])
def test_coco_and_back(tmp_path: Path, store: Store, copied: bool) -> None:
    record(store, correction(1, second=9, texts=("one", "two"), typed=("One!", "Two!")), correction(2, "", 9))
    coco = tmp_path / "coco"
    photos = {"train": coco / "train2017", "dev": coco / "val2017"}
    for split, folder in photos.items():
        folder.mkdir(parents=True)
        arguments = ["--format", "coco", "--split", split, *(["--images", folder] if copied else [])]
        listing = json.loads(exported(tmp_path, coco / "annotations" / f"captions_{folder.name}.json", *arguments))
        captioned = {image["id"]: image for image in listing["images"]}
        assert all(note["image_id"] in captioned for note in listing["annotations"])
        assert [note["id"] for note in listing["annotations"]] == list(range(1, len(listing["annotations"]) + 1))
        assert {(image["width"], image["height"], image["split"]) for image in listing["images"]} == {(16, 12, split)}
        assert all(note["draft"] == f"draft {note['task']}" for note in listing["annotations"])
        assert listing["other_annotations"] == []
    rows = lines(exported(tmp_path, tmp_path / "pairs.jsonl"))
    expected = {row["sha256"]: tuple(row["references"]) for row in rows if row["split"] in photos}
    read = datasets.read("coco2017", coco)
    assert {row.sha256: row.references for row in read} == expected
    assert {row.sha256: row.split for row in read} == {
        row["sha256"]: row["split"] for row in rows if row["split"] in photos
    }
    assert {row.image.is_relative_to(coco) for row in read} == {copied}


def test_what_is_not_to_be_learnt_stands_apart(tmp_path: Path, store: Store) -> None:
    record(store, correction(1, "reworded", 5), correction(2, "skipped", 5, was_cancelled=True))
    record(store, deleted_annotations=(3,))
    usable = lines(exported(tmp_path, tmp_path / "usable.jsonl"))
    assert [row["annotation"] for row in usable] == [1, *range(4, 41)]
    rows = lines(exported(tmp_path, tmp_path / "all.jsonl", "--all"))
    told = [(row["annotation"], row["state"], row["references"], row["typed"]) for row in rows if row["annotation"] < 4]
    assert told == [
        (1, "past", [], ["Bild 1, größer"]),
        (1, "current", ["reworded"], ["reworded"]),
        (2, "past", [], ["Bild 2, größer"]),
        (2, "skipped", [], ["skipped"]),
        (3, "past", [], ["Bild 3, größer"]),
        (3, "deleted", [], ["Bild 3, größer"]),
    ]
    listing = json.loads(exported(tmp_path, tmp_path / "all.json", "--all", "--format", "coco"))
    assert len(listing["annotations"]) == 38
    assert [note["typed"] for note in listing["other_annotations"]] == [told[number][3] for number in (0, 2, 3, 4, 5)]
    assert len(listing["images"]) == 40


def test_half_a_character_costs_nothing(tmp_path: Path, store: Store) -> None:
    record(store, correction(1, second=5, texts=("hi there",), typed=("hi \ud83d there",)))
    assert lines(exported(tmp_path, tmp_path / "pairs.jsonl"))[0]["typed"] == ["hi \ud83d there"]
    assert "hi ? there" in exported(tmp_path, tmp_path / "pairs.csv", "--format", "csv")


@pytest.mark.parametrize("form", ["jsonl", "csv", "coco"])
def test_of_an_image_that_stands_in_its_task_only_the_kind_is_written(tmp_path: Path, store: Store, form: str) -> None:
    inline = Task(99, 1, "data:image/png;base64,SECRET")
    store.record(Event("ANNOTATION_CREATED", 1, (correction(99),), (inline,)))
    text = exported(tmp_path, tmp_path / "pairs", "--format", form)
    assert "data:image/png;base64…" in text
    assert "SECRET" not in text


def test_standard_output_holds_the_pairs_and_nothing_else(tmp_path: Path, store: Store) -> None:
    result = run(tmp_path, "--project", 1, "--out", "-")
    assert result.exit_code == 0
    assert len(lines(result.stdout)) == 40
    assert "40 annotations of project 1 are exported." in result.stderr


def test_what_is_there_is_not_overwritten(tmp_path: Path, store: Store) -> None:
    out = tmp_path / "pairs.jsonl"
    out.write_text("mine")
    result = run(tmp_path, "--project", 1, "--out", out)
    assert result.exit_code != 0
    assert (
        result.output.strip()
        .splitlines()[-1]
        .endswith("exists already: give --force to overwrite it, or another --out.")
    )
    assert out.read_text() == "mine"
    assert len(lines(exported(tmp_path, out, "--force"))) == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--project", 7, "--out", "x.jsonl"], "Project 7 has no corrections to export; other projects are 1."),
        (["--project", 1, "--out", "/proc/x.jsonl"], "/proc/x.jsonl cannot be written: "),
        (["--project", 1, "--out", "x.jsonl", "--images", "/proc/x"], "cannot be copied to /proc/x: "),
        (
            ["--project", 1, "--out", "x.jsonl", "--images", "images", "--images-url", "nowhere://x"],
            "The store nowhere://x (CAPTIONER_IMAGES_URL) cannot be reached: Protocol not known: nowhere.",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, arguments: list[object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "data" / "images" / hashlib.sha256(picture((3, 7, 9))).hexdigest()[:2])
    result = run(tmp_path, *arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert said in result.output.strip().splitlines()[-1]
    assert not (tmp_path / "x.jsonl").exists()


def test_a_split_that_has_nothing_is_said(tmp_path: Path) -> None:
    store = Store(settings(tmp_path / "data").database_url)
    store.migrate()
    record(store, correction(1))
    result = run(tmp_path, "--project", 1, "--out", tmp_path / "x.jsonl", "--split", "blind")
    assert "Project 1 has no corrections of the split blind." in result.output
    text = exported(tmp_path, tmp_path / "x.jsonl")
    assert lines(text)[0]["split"] == ""
    assert lines(text)[0]["image"] == "/data/upload/1/1.jpg"
    assert manifest.load(tmp_path / "x.jsonl", hashes=False)[0].references == ("a red dot",)
