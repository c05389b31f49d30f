from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from backend.domain.errors import LabelStudioError
from backend.up.project import Images, open_project


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
            name = path.name.replace(" ", "_").replace("(", "").replace(")", "")
            self.shown.append(f"/data/upload/{project_id}/{len(self.shown):08x}-{quote(name)}")
        self._die("upload")

    def tasks(self, project_id: int) -> list[dict[str, Any]]:
        return [{"data": {"image": image}} for image in self.shown]

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


def photos(*names: str) -> Images:
    return Images("photos:/p", "Captions of p", [Path("/p") / name for name in names])


MANY = photos(*(f"{folder}/Ähre {n} (copy).jpg" for folder in "ab" for n in range(30)))


@pytest.mark.parametrize("dies", ["create", "upload", ""])
def test_what_a_killed_run_did_is_not_done_again(studio: Any, here: Path, dies: str) -> None:
    studio.dies = dies
    if dies:
        with pytest.raises(LabelStudioError):
            open_project(studio, here, MANY)
    for _ in range(2):
        assert open_project(studio, here, MANY) == 1
    assert len(studio.made) == 1
    assert len(studio.shown) == 60
    assert len({name.split("-", 1)[1] for name in studio.shown}) == 30


def test_new_photos_are_added_and_others_of_the_same_name_are_not_taken_for_them(studio: Any, here: Path) -> None:
    open_project(studio, here, photos("a/1.jpg", "a/2.jpg"))
    open_project(studio, here, photos("a/1.jpg", "a/2.jpg", "b/1.jpg"))
    assert [name.split("-", 1)[1] for name in studio.shown] == ["1.jpg", "2.jpg", "1.jpg"]


def test_a_project_that_was_deleted_is_made_anew(studio: Any, here: Path) -> None:
    open_project(studio, here, photos("1.jpg"))
    studio.made = [{"id": 7, "title": "Another", "description": "Made by hand"}]
    studio.shown.clear()
    assert open_project(studio, here, photos("1.jpg")) == 2
    assert len(studio.shown) == 1
