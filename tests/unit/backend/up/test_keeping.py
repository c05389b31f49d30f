"""Backups made while everything runs, and what is restored from them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backend.cli.main import main
from backend.images.sharing import Sharing
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from backend.system import in_use
from tests import factories
from tests.factories import correction, picture, saved
from training.data import manifest
from training.data.manifest import Row

NAME = "model.safetensors"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    """A project with two corrections, an image, and a champion with its snapshot."""
    services = factories.backend(data)
    services.store.record(saved(correction(1, "a red dot"), correction(2, "a blue dot")))
    content = picture()
    sha256 = hashlib.sha256(content).hexdigest()
    image = data / "images" / sha256[:2] / f"{sha256}.png"
    write(image, content)
    snapshot = data / "snapshots" / "1-2" / "manifest.jsonl"
    snapshot.parent.mkdir(parents=True)
    manifest.save([Row(image, sha256, ("a red dot",))], snapshot)
    checkpoint = data / "models" / "p1-v1"
    write(checkpoint / NAME, b"weights")
    services.registry.register(ModelVersion("p1-v1", checkpoint, 1, manifest=snapshot))
    services.registry.promote(1, "p1-v1", reason="better", by="gate")
    write(data / "logs" / "worker.log", b"no part of a backup")
    yield services.store
    services.store.close()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run(*arguments: object, code: int = 0) -> Any:
    """What the command answers as JSON, or the one line of its error."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    return found["error"] if code == 1 else found


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_was_acknowledged_before_a_backup_is_there_when_it_is_restored_elsewhere(
    store: Store, data: Path, tmp_path: Path
) -> None:
    acknowledged: list[int] = []
    ended = threading.Event()

    def annotate(first: int) -> None:
        number = first
        while not ended.is_set():
            store.record(saved(correction(number, f"dot {number}")))
            acknowledged.append(number)
            number += 1

    threads = [threading.Thread(target=annotate, args=(first,)) for first in (1000, 2000)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 4:
        ended.wait(0.01)
    before = set(acknowledged)
    made = run("backup", tmp_path / "kept", "--data-dir", data)
    ended.set()
    for thread in threads:
        thread.join()
    shutil.rmtree(data)
    restored = run("restore", tmp_path / "kept", "--data-dir", tmp_path / "elsewhere")
    assert restored["files"] == made["files"] == 4
    there = factories.backend(tmp_path / "elsewhere")
    found = {each.annotation_id for each in there.store.corrections(1)}
    assert before | {1, 2} <= found
    champion = there.registry.champion(1)
    assert champion is not None
    assert champion.checkpoint == tmp_path / "elsewhere" / "models" / "p1-v1"
    assert (champion.checkpoint / NAME).read_bytes() == b"weights"
    there.champions.serve(1, champion.name, champion.checkpoint)
    assert there.champions.serving(1) == "p1-v1"
    assert champion.manifest is not None
    assert manifest.load(champion.manifest)[0].references == ("a red dot",)
    status = run("status", "--data-dir", tmp_path / "elsewhere")
    assert [project["champion"] for project in status["projects"]] == ["p1-v1"]


def test_a_second_backup_copies_what_is_new_and_drops_what_is_gone(store: Store, data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    run("backup", kept, "--data-dir", data)
    checkpoint = (kept / "models" / "p1-v1" / NAME).stat()
    write(data / "models" / "p1-v2" / NAME, b"other weights")
    (data / "snapshots" / "1-2" / "manifest.jsonl").unlink()
    store.record(saved(correction(3, "a green dot")))
    made = run("backup", kept, "--data-dir", data)
    assert (made["copied"], made["removed"]) == (2, 2), "the checkpoint and the database; a manifest and a database"
    assert (kept / "models" / "p1-v1" / NAME).stat().st_ino == checkpoint.st_ino
    assert len(list(kept.glob("captioner-*.db"))) == 1
    assert not any("logs" in each or "snapshots" in each for each in files(kept))


def test_what_other_machines_have_made_is_part_of_it(store: Store, data: Path, tmp_path: Path) -> None:
    given = factories.settings(data, CAPTIONER_IMAGES_URL=str(tmp_path / "shared"))
    Sharing(given, store).share(data / "models" / "p1-v1")
    shutil.rmtree(data / "models")
    made = run("backup", tmp_path / "kept", "--data-dir", data, "--images-url", tmp_path / "shared")
    assert made["without_checkpoint"] == []
    assert (tmp_path / "kept" / "models" / "p1-v1" / NAME).read_bytes() == b"weights"


def test_images_may_be_listed_only(store: Store, data: Path, tmp_path: Path) -> None:
    made = run("backup", tmp_path / "kept", "--data-dir", data, "--without-images")
    assert made["images_left_out"] == 1
    assert not any(each.startswith("images") for each in files(tmp_path / "kept"))
    [(path, about)] = json.loads((tmp_path / "kept" / "backup.json").read_text())["left_out"].items()
    assert about["sha256"] == Path(path).stem
    assert run("restore", tmp_path / "kept", "--data-dir", tmp_path / "new")["images_left_out"] == 1


def test_a_backup_that_is_interrupted_leaves_the_one_before_it(
    store: Store, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("backup", tmp_path / "kept", "--data-dir", data)
    store.record(saved(correction(3)))
    monkeypatch.setattr("backend.up.keeping.contents.Contents.save", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(main, ["backup", str(tmp_path / "kept"), "--data-dir", str(data)], catch_exceptions=False)
    run("restore", tmp_path / "kept", "--data-dir", tmp_path / "new")
    assert len(Store(f"sqlite:///{tmp_path}/new/captioner.db").corrections(1)) == 2


def test_no_backup_goes_into_the_data_folder_or_over_other_files(store: Store, data: Path, tmp_path: Path) -> None:
    assert "is in the data folder" in run("backup", data / "kept", "--data-dir", data, code=1)
    write(tmp_path / "photos" / "1.jpg", b"")
    assert "not empty and no backup" in run("backup", tmp_path / "photos", "--data-dir", data, code=1)
    write(tmp_path / "file", b"")
    assert CliRunner().invoke(main, ["backup", str(tmp_path / "file"), "--data-dir", str(data)]).exit_code == 2


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(
    store: Store, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("backup", tmp_path / "kept", "--data-dir", data)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10, 10, 10))
    assert "are free" in run("backup", tmp_path / "other", "--data-dir", data, code=1)
    assert files(tmp_path / "other") <= {".backup.lock"}
    assert "are free" in run("restore", tmp_path / "kept", "--data-dir", tmp_path / "new", code=1)
    assert files(tmp_path / "new") == set()


def test_a_damaged_backup_changes_nothing(store: Store, data: Path, tmp_path: Path) -> None:
    run("backup", tmp_path / "kept", "--data-dir", data)
    (tmp_path / "kept" / "models" / "p1-v1" / NAME).write_bytes(b"Weights")
    error = run("restore", tmp_path / "kept", "--data-dir", tmp_path / "new", code=1)
    assert "models/p1-v1/model.safetensors missing or not as listed" in error
    assert list((tmp_path / "new").iterdir()) == []
    assert "no whole backup" in run("restore", tmp_path / "nowhere", "--data-dir", tmp_path / "new", code=1)


def test_a_list_that_leads_out_of_the_data_folder_is_refused(store: Store, data: Path, tmp_path: Path) -> None:
    run("backup", tmp_path / "kept", "--data-dir", data)
    listed = tmp_path / "kept" / "backup.json"
    listed.write_text(listed.read_text().replace('"models/', '"../models/'))
    assert "outside the data folder" in run("restore", tmp_path / "kept", "--data-dir", tmp_path / "new", code=1)


def test_a_backup_of_a_newer_release_is_refused(store: Store, data: Path, tmp_path: Path) -> None:
    run("backup", tmp_path / "kept", "--data-dir", data)
    listed = tmp_path / "kept" / "backup.json"
    contents = json.loads(listed.read_text())
    listed.write_text(json.dumps({**contents, "schema": "9999"}))
    assert "the schema 9999" in run("restore", tmp_path / "kept", "--data-dir", tmp_path / "new", code=1)


def test_what_a_folder_held_is_moved_aside(store: Store, data: Path, tmp_path: Path) -> None:
    run("backup", tmp_path / "kept", "--data-dir", data)
    store.record(saved(correction(3)))
    store.close()
    asked = CliRunner().invoke(main, ["restore", str(tmp_path / "kept"), "--data-dir", str(data)], input="n\n")
    assert asked.exit_code == 1
    assert "is not empty" in asked.output
    assert len(Store(f"sqlite:///{data}/captioner.db").corrections(1)) == 3
    restored = run("restore", tmp_path / "kept", "--data-dir", data, "--yes")
    assert len(Store(f"sqlite:///{data}/captioner.db").corrections(1)) == 2
    aside = Path(restored["aside"])
    assert aside.parent == data
    assert len(Store(f"sqlite:///{aside}/captioner.db").corrections(1)) == 3
    assert (aside / "logs" / "worker.log").exists()


def test_nothing_is_restored_into_a_folder_that_is_in_use(store: Store, data: Path, tmp_path: Path) -> None:
    run("backup", tmp_path / "kept", "--data-dir", data)
    held = in_use.hold(data)
    in_use.release(in_use.hold(data))
    assert "A captioner runs with" in run("restore", tmp_path / "kept", "--data-dir", data, "--yes", code=1)
    in_use.release(held)
    with in_use.alone(data), pytest.raises(in_use.InUseError, match="is being restored"):
        in_use.hold(data)


def test_a_file_system_without_locks_serves_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    in_use.release(in_use.hold(tmp_path))


def test_the_label_studio_of_up_is_part_of_it(store: Store, data: Path, tmp_path: Path) -> None:
    theirs = Store(f"sqlite:///{data}/label-studio/label_studio.sqlite3")
    theirs.migrate()
    write(data / "label-studio" / "media" / "upload" / "1.jpg", b"photo")
    write(data / "label-studio" / ".env", b"SECRET_KEY=x")
    run("backup", tmp_path / "kept", "--data-dir", data)
    run("restore", tmp_path / "kept", "--data-dir", tmp_path / "new")
    there = files(tmp_path / "new" / "label-studio")
    assert there == {"label_studio.sqlite3", "media/upload/1.jpg", ".env"}
    assert Registry(Store(f"sqlite:///{tmp_path}/new/label-studio/label_studio.sqlite3")).versions() == []
    assert (tmp_path / "new" / "label-studio" / ".env").stat().st_mode & 0o077 == 0
