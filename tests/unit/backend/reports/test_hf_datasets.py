"""`captioner export --to hf-datasets`: a folder that Hugging Face's `datasets` reads."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from backend.cli.main import main
from backend.domain.corrections import Event, Task
from backend.store.store import Store
from tests.factories import correction, draft, picture, settings

PICTURES = 24


@pytest.fixture(autouse=True)
def some_are_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONER_BLIND_SHARE", "0.1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A project of captioned images; task 1 is captioned twice, task 2 by two people, the last one's image is away."""
    store = Store(settings(tmp_path / "data").database_url)
    store.migrate()
    hashes = {}
    for number in range(1, PICTURES + 1):
        content = picture((number, 7, 9))
        hashes[_source(number)] = sha256 = hashlib.sha256(content).hexdigest()
        path = tmp_path / "data" / "images" / sha256[:2] / f"{sha256}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    drafted = [draft(number, text="" if number % 4 == 0 else f"draft {number}") for number in range(1, PICTURES + 1)]
    store.add_drafts(1, drafted)
    made = [correction(number, f"Bild {number}, größer") for number in range(2, PICTURES + 2)]
    two = ("one", "two")
    made += [
        correction(1, texts=two, typed=two),
        correction(99, "by another", task_id=2),
        correction(98, "", task_id=3),
    ]
    shown = tuple(Task(each.task_id, 1, _source(each.task_id)) for each in made)
    store.record(Event("ANNOTATION_CREATED", 1, tuple(made), shown))
    store.add_image_hashes(1, hashes)
    return store


def _source(number: int) -> str:
    return f"/data/upload/1/{number}.jpg"


def _name(number: int) -> str:
    return f"{hashlib.sha256(picture((number, 7, 9))).hexdigest()}.png"


def run(tmp_path: Path, *arguments: object) -> Result:
    folder = ("--data-dir", tmp_path / "data", "--project", 1)
    return CliRunner().invoke(main, ["export", *map(str, (*folder, *arguments))])


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """By image, with the split it stands in."""
    return {
        row["file_name"]: {**row, "split": path.parent.name}
        for path in folder.rglob("metadata.jsonl")
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    }


def test_every_image_stands_in_the_folder_of_its_split_with_all_its_captions(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "new" / "captions"
    result = run(tmp_path, "--to", "hf-datasets", folder)
    assert result.exit_code == 0, result.output
    assert result.output == (
        f"{folder} has 24 images with 26 captions; 1 image is not here and left out, such as /data/upload/1/25.jpg.\n"
    )
    found = rows(folder)
    assert set(found) == {_name(number) for number in range(1, PICTURES + 1)}
    assert all((folder / row["split"] / name).read_bytes() for name, row in found.items())
    names = {"train": "train", "dev": "validation", "held_out": "test", "blind": "test"}
    assert {(row["split"], names[row["project_split"]]) for row in found.values()} == {(n, n) for n in names.values()}
    assert found[_name(1)]["captions"] == ["one", "two"]
    assert found[_name(1)]["drafts"] == ["draft 1", "draft 1"]
    assert sorted(found[_name(2)]["captions"]) == ["Bild 2, größer", "by another"]
    assert (found[_name(4)]["drafts"], found[_name(4)]["accepted"]) == ([""], [False])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "pretty_name: Corrected captions of project 1" in card
    assert f"| train | {sum(row['split'] == 'train' for row in found.values())} |" in card
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["captions"], "nothing unfinished"


def test_nothing_tells_of_people_or_of_the_places_of_images(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "captions"
    run(tmp_path, "--to", "hf-datasets", folder)
    assert all(
        set(row) == {"file_name", "captions", "drafts", "accepted", "project_split", "split"}
        for row in rows(folder).values()
    )


def test_programs_get_the_counts(tmp_path: Path, store: Store) -> None:
    result = run(tmp_path, "--to", "hf-datasets", tmp_path / "captions", "--json")
    assert json.loads(result.stdout) == {
        "project": 1,
        "format": "hf-datasets",
        "out": str(tmp_path / "captions"),
        "images": 24,
        "captions": 26,
        "missing": ["/data/upload/1/25.jpg"],
    }


def test_only_some_splits(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "captions"
    assert run(tmp_path, "--to", "hf-datasets", folder, "--split", "dev").exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "validation"]


def test_images_that_are_not_here_come_from_the_image_store(tmp_path: Path, store: Store) -> None:
    (tmp_path / "data" / "images").rename(tmp_path / "kept")
    folder = tmp_path / "captions"
    assert run(tmp_path, "--to", "hf-datasets", folder, "--images-url", tmp_path / "kept").exit_code == 0
    assert len(rows(folder)) == PICTURES


def test_a_folder_that_holds_something_is_refused_and_an_empty_one_is_filled(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "captions"
    folder.mkdir()
    (folder / "mine").touch()
    result = run(tmp_path, "--to", "hf-datasets", folder)
    assert result.exit_code == 1
    assert result.output.strip().endswith(f"The folder {folder} is not empty: name another, or empty it.")
    assert [path.name for path in folder.iterdir()] == ["mine"]
    (folder / "mine").unlink()
    assert run(tmp_path, "--to", "hf-datasets", folder).exit_code == 0
    assert len(rows(folder)) == PICTURES


def test_the_current_folder_is_refused_because_it_would_be_replaced(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (".", tmp_path / "here"):
        result = run(tmp_path, "--to", "hf-datasets", folder)
        assert result.exit_code == 1
        assert result.output.strip().endswith("is the current folder: name a new one, such as captions.")
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --out for a file, or --to hf-datasets for a folder."),
        (["--out", "x.jsonl", "--to", "hf-datasets", "y"], "Give --out for a file, or --to hf-datasets for a folder."),
        (["--to", "hf-datasets", "y", "--all"], "--to takes none of --format, --all, --images and --force."),
        (["--to", "hf-datasets", "/proc/x"], "/proc/x cannot be written: "),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(tmp_path, *arguments)
    assert isinstance(result.exception, SystemExit)
    assert said in result.output.strip().splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_where_no_image_is_here_nothing_is_written(tmp_path: Path, store: Store) -> None:
    shutil.rmtree(tmp_path / "data" / "images")
    result = run(tmp_path, "--to", "hf-datasets", tmp_path / "captions")
    assert result.exit_code == 1
    assert "None of the images of project 1 is here, such as /data/upload/1/" in result.output
    assert not (tmp_path / "captions").exists()


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("datasets"), reason="needs the package datasets, of the extra `dev`")
def test_datasets_reads_the_folder(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "captions"
    run(tmp_path, "--to", "hf-datasets", folder)
    code = """
import sys
from datasets import load_dataset

read = load_dataset(sys.argv[1])
print({split: len(rows) for split, rows in read.items()})
[row] = [row for rows in read.values() for row in rows if "one" in row["captions"]]
print(row["image"].size, row["captions"], row["drafts"], row["accepted"], row["project_split"])
"""
    environ = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    argv = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(argv, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    splits = [row["split"] for row in rows(folder).values()]
    expected = {split: splits.count(split) for split in ("train", "validation", "test")}
    split = rows(folder)[_name(1)]["project_split"]
    counts, row = done.stdout.splitlines()
    assert counts == str(expected)
    assert row == f"(16, 12) ['one', 'two'] ['draft 1', 'draft 1'] [False, False] {split}"
