from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

import pytest

from backend.domain.errors import CaptionerError, LabelStudioError
from backend.label_studio.client import upload_name
from backend.label_studio.connect import Connection
from backend.store.store import Store
from backend.up import project
from backend.up.project import Images, connect_project, open_project
from tests.factories import picture, settings

Photos = Callable[..., Images]


class Studio:
    """What `open_project` asks of Label Studio; `dies` says what it does last before it is killed."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.shown: list[str] = []
        self.dies = ""

    def projects(self) -> list[dict[str, Any]]:
        return self.made

    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        self.made.append({"id": len(self.made) + 1, "title": title, **fields})
        self._die("create")
        return self.made[-1]

    def upload_images(self, project_id: int, paths: Sequence[Path]) -> None:
        """As Label Studio 1.23.2 names uploads."""
        for path in paths:
            name = upload_name(path)
            self.shown.append(f"/data/upload/{project_id}/{len(self.shown):08x}-{quote(name)}")
        self._die("upload")

    def task_summaries(self, project_id: int, unreadable: set[int]) -> list[list[dict[str, Any]]]:
        return [[{"data": {"image": image}} for image in self.shown]]

    def _die(self, doing: str) -> None:
        if self.dies == doing:
            self.dies = ""
            raise LabelStudioError("It was killed.")


@pytest.fixture
def studio() -> Any:
    return Studio()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "label-studio").mkdir()
    return tmp_path


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Puts photos under these names into a folder, and gives what is in it."""

    def write(*names: str, content: bytes = picture()) -> Images:
        for name in names:
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return project.photos(tmp_path / "photos")

    return write


MANY = [f"{folder}/Ähre {n} (copy).jpg" for folder in "ab" for n in range(30)]


def names(studio: Studio) -> list[str]:
    return [unquote(shown).split("-", 1)[1] for shown in studio.shown]


@pytest.mark.parametrize("dies", ["create", "upload", ""])
def test_what_a_killed_run_did_is_not_done_again(studio: Any, here: Path, photos: Photos, dies: str) -> None:
    studio.dies = dies
    many = photos(*MANY)
    if dies:
        with pytest.raises(LabelStudioError):
            open_project(studio, here, many)
    for _ in range(2):
        assert open_project(studio, here, many) == 1
    assert len(studio.made) == 1
    assert len(studio.shown) == 60
    assert len(set(names(studio))) == 30


def test_new_photos_are_added_and_others_of_the_same_name_are_not_taken_for_them(
    studio: Any, here: Path, photos: Photos
) -> None:
    open_project(studio, here, photos("a/1.jpg", "a/2.jpg"))
    open_project(studio, here, photos("b/1.jpg"))
    assert names(studio) == ["1.jpg", "2.jpg", "1.jpg"]


ODD = {"caf\udce9.jpg": "caf.jpg", "a\nb.jpg": "ab.jpg", 'a"\u2028c.jpg': "ac.jpg", "x\\y&amp;z.jpg": "xyampz.jpg"}


@pytest.mark.parametrize("dies", ["upload", ""])
def test_odd_names_are_uploaded_once_under_cleaned_ones(studio: Any, here: Path, photos: Photos, dies: str) -> None:
    studio.dies = dies
    images = photos(*ODD, "\udce9/??.jpg")
    if dies:
        with pytest.raises(LabelStudioError):
            open_project(studio, here, images)
    for _ in range(2):
        open_project(studio, here, images)
    assert sorted(names(studio)) == sorted([*ODD.values(), "photo.jpg"])


def test_a_folder_whose_name_is_not_utf_8_is_a_project_that_others_can_store(
    studio: Any, here: Path, tmp_path: Path
) -> None:
    (tmp_path / "caf\udce9").mkdir()
    (tmp_path / "caf\udce9" / "1.jpg").write_bytes(picture())
    for _ in range(2):
        assert open_project(studio, here, project.photos(tmp_path / "caf\udce9")) == 1
    (made,) = studio.made
    assert "".join(map(str, made.values())).isascii()
    assert len(studio.shown) == 1


def test_files_that_would_get_no_draft_are_left_out_and_counted(
    studio: Any, here: Path, photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    photos("good.jpg")
    photos("__MACOSX/._good.jpg", ".thumbs/good.jpg", content=picture("blue"))
    photos("truncated.jpg", content=picture(kind="JPEG", size=(300, 300))[:-200])
    photos("empty.png", content=b"")
    for _ in range(2):
        open_project(studio, here, photos("page.gif", content=b"<html>"))
    assert names(studio) == ["good.jpg"]
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "imported" in line] == ["✓ 1 image imported"]
    left = [line for line in lines if line.startswith("!")]
    assert len(left) == 2
    assert (
        "2 hidden (the first: good.jpg) and 3 that would get no draft (the first: The image empty.png is not" in left[0]
    )
    photos("empty.png")
    open_project(studio, here, photos())
    assert names(studio) == ["good.jpg", "empty.png"], "it was mended"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, r"^The folder .*photos has no photos \(\.bmp, .*\)\.$"),
        ({".a.jpg": picture(), "a.txt": b"x"}, r"has no photos .* Left out 1 hidden \(the first: \.a\.jpg\)\.$"),
        ({"a.jpg": b"", "b.jpg": b"x"}, r"^None of the 2 photos .* can be used; the first: The image a\.jpg is not"),
    ],
)
def test_a_folder_without_photos_is_told(photos: Photos, tmp_path: Path, files: Any, sentence: str) -> None:
    (tmp_path / "photos").mkdir()
    for name, content in files.items():
        (tmp_path / "photos" / name).write_bytes(content)
    with pytest.raises(CaptionerError, match=sentence):
        photos()


def test_a_project_that_was_deleted_is_made_anew(studio: Any, here: Path, photos: Photos) -> None:
    open_project(studio, here, photos("1.jpg"))
    studio.made = [{"id": 7, "title": "Another", "description": "Made by hand"}]
    studio.shown.clear()
    assert open_project(studio, here, photos("1.jpg")) == 2
    assert len(studio.shown) == 1


@pytest.mark.parametrize(("unreadable", "told"), [({7}, "! Task 7 cannot be read"), (None, "! Label Studio is busy")])
def test_what_cannot_be_read_is_told_and_ends_nothing(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unreadable: set[int] | None,
    told: str,
) -> None:
    def compare(*given: Any) -> Any:
        if unreadable is None:
            raise LabelStudioError("Label Studio is busy.")
        return SimpleNamespace(unreadable=unreadable)

    monkeypatch.setattr(project, "connect", lambda *given: Connection((), ()))
    monkeypatch.setattr(project, "reconcile", compare)
    given = settings(here)
    store = Store(given.database_url)
    store.migrate()
    connect_project(None, given, 1, store)  # type: ignore[arg-type]
    assert told in capsys.readouterr().out
    assert store.reconciliation_state(1).failure == (None if unreadable else "Label Studio is busy.")
