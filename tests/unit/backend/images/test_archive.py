"""Images by content: kept behind an fsspec URL, brought back when they are missing or damaged here."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec  # type: ignore[import-untyped]
import pytest

from backend.domain.errors import ImageError, UnreachableImageError
from backend.images.archive import ImageStore
from tests.factories import picture, settings
from training.data import manifest
from training.data.manifest import Row


@pytest.fixture(params=["memory", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store that outlives the ImageStore: in memory, or a folder of this machine."""
    if request.param == "folder":
        yield str(tmp_path / "kept")
        return
    yield f"memory://{uuid4().hex}"
    fsspec.filesystem("memory").store.clear()


def row(data: Path, number: int) -> Row:
    """A row whose image lies in the data folder's cache."""
    content = picture((number, 7, 9))
    sha256 = hashlib.sha256(content).hexdigest()
    path = data / "images" / sha256[:2] / f"{sha256}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Row(path, sha256, (f"picture {number}",))


def store(data: Path, url: str = "") -> ImageStore:
    return ImageStore(settings(data, CAPTIONER_IMAGES_URL=url))


def test_what_was_kept_comes_back_when_the_data_folder_has_lost_it(tmp_path: Path, url: str) -> None:
    rows = [row(tmp_path, number) for number in range(20)]
    told: list[tuple[int, int]] = []
    store(tmp_path, url).keep(rows, lambda done, total: told.append((done, total)))
    assert told[-1] == (20, 20)
    shutil.rmtree(tmp_path / "images")
    restored, lost = store(tmp_path, url).restored(rows)
    assert not lost
    assert restored == rows, "at the same place"
    assert manifest.content_hash(restored) == manifest.content_hash(rows)
    assert all(manifest.hash_file(each.image) == each.sha256 for each in restored)


def test_nothing_is_put_twice(tmp_path: Path, url: str) -> None:
    rows = [row(tmp_path, number) for number in range(3)]
    store(tmp_path, url).keep(rows[:2])
    told: list[tuple[int, int]] = []
    again = store(tmp_path, url)
    again.keep(rows, lambda done, total: told.append((done, total)))
    again.keep(rows, lambda done, total: told.append((done, total)))
    assert told == [(1, 1)]


def test_a_folder_holds_only_whole_images_by_content(tmp_path: Path) -> None:
    rows = [row(tmp_path, number) for number in range(3)]
    store(tmp_path, str(tmp_path / "kept")).keep(rows)
    found = {path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*.*")}
    assert found == {f"{each.sha256[:2]}/{each.sha256}.png" for each in rows}


def test_what_is_damaged_here_is_replaced(tmp_path: Path, url: str) -> None:
    rows = [row(tmp_path, number) for number in range(2)]
    store(tmp_path, url).keep(rows)
    rows[0].image.write_bytes(b"\x89PNG and then nothing")
    assert store(tmp_path, url).restored(rows, by_content=False)[1] == [], "only looked for"
    assert manifest.hash_file(rows[0].image) != rows[0].sha256
    assert store(tmp_path, url).restored(rows) == (rows, [])
    assert manifest.hash_file(rows[0].image) == rows[0].sha256


def test_an_image_of_a_folder_that_is_gone_comes_back_into_the_data_folder(tmp_path: Path, url: str) -> None:
    kept = row(tmp_path, 1)
    store(tmp_path, url).keep([kept])
    shutil.rmtree(tmp_path / "images")
    photo = Row(tmp_path / "photos" / "1.jpeg", kept.sha256, ("a photo",))
    assert store(tmp_path, url).restored([photo]) == ([Row(kept.image, kept.sha256, ("a photo",))], [])
    assert not (tmp_path / "photos").exists()


def test_a_copy_of_a_data_folder_uses_its_own_images(tmp_path: Path) -> None:
    rows = [row(tmp_path / "data", number) for number in range(2)]
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    (tmp_path / "copy" / "images" / rows[1].sha256[:2] / rows[1].image.name).unlink()
    restored, lost = store(tmp_path / "copy").restored(rows, by_content=False)
    assert not lost
    assert restored[0].image == tmp_path / "copy" / "images" / rows[0].sha256[:2] / rows[0].image.name
    assert restored[1] == rows[1], "what the copy lacks is used where it is"


def test_what_is_damaged_in_the_store_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row(tmp_path, number) for number in range(2)]
    store(tmp_path, str(tmp_path / "kept")).keep(rows)
    next((tmp_path / "kept").rglob(f"{rows[0].sha256}.png")).write_bytes(b"rotten")
    shutil.rmtree(tmp_path / "images")
    with caplog.at_level(logging.WARNING):
        restored, lost = store(tmp_path, str(tmp_path / "kept")).restored(rows)
    assert (restored, lost) == (rows, rows[:1])
    assert not rows[0].image.exists()
    assert "is damaged and not used" in caplog.text


def test_by_default_the_data_folder_is_the_store(tmp_path: Path) -> None:
    rows = [row(tmp_path / "old", number) for number in range(3)]
    store(tmp_path / "old").keep(rows)
    assert sorted((tmp_path / "old").iterdir()) == [tmp_path / "old" / "images"], "nothing is copied"
    (tmp_path / "old").rename(tmp_path / "new")
    restored, lost = store(tmp_path / "new").restored(rows)
    assert not lost
    assert [each.image for each in restored] == [
        tmp_path / "new" / each.image.relative_to(tmp_path / "old") for each in rows
    ]
    shutil.rmtree(tmp_path / "new" / "images")
    assert store(tmp_path / "new").restored(rows) == (rows, rows)


@pytest.mark.parametrize("sha256", ["", "9f", "../../etc/passwd", "*" * 64])
def test_what_is_no_hash_is_nowhere(tmp_path: Path, url: str, sha256: str) -> None:
    nameless = Row(tmp_path / "x.png", sha256, ("no hash",))
    assert store(tmp_path, url).restored([nameless]) == ([nameless], [nameless])


def test_what_is_no_image_of_this_hash_is_never_put(tmp_path: Path, url: str) -> None:
    changed = row(tmp_path, 1)
    changed.image.write_bytes(b"something else")
    with pytest.raises(ImageError, match="has changed while it was being uploaded"):
        store(tmp_path, url).keep([changed])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("s3://bucket/folder", "needs a package beside this one: Install s3fs to access S3"),
        ("nowhere://x", "cannot be reached: Protocol not known: nowhere"),
        ("/proc/nowhere", "cannot be reached: "),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)  # where another test has used it
    with pytest.raises(UnreachableImageError) as caught:
        store(tmp_path, address).keep([row(tmp_path, 1)])
    sentence = str(caught.value)
    assert sentence.startswith(f"The store {address} (CAPTIONER_IMAGES_URL) {reason}")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_credentials_are_not_shown_and_missing_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, *_: object, **__: object) -> None:
        raise RuntimeError("Unable to locate credentials\nand more lines")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.ls", refuse)
    with pytest.raises(UnreachableImageError) as caught:
        store(tmp_path, "memory://ann:secret@bucket").find("0" * 64)
    assert str(caught.value) == (
        "The store memory://bucket (CAPTIONER_IMAGES_URL) cannot be reached: Unable to locate credentials; "
        "set them where this process runs."
    )


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, *_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.mv", full)
    with pytest.raises(UnreachableImageError, match="No space left on device"):
        store(tmp_path, str(tmp_path / "kept")).keep([row(tmp_path, 1)])
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
