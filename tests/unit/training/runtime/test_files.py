"""Files and folders appear whole or not at all."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from training.runtime.files import atomic_file, atomic_folder


def test_a_file_appears_at_the_end_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    with atomic_file(path) as unfinished:
        unfinished.write_text("whole")
        assert (unfinished.parent, unfinished.suffix, path.exists()) == (path.parent, ".html", False)
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("page.html", "whole")]


def test_after_an_error_the_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")
    with pytest.raises(NotADirectoryError), atomic_file(path) as unfinished:
        (unfinished / "below").write_text("half")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("page.html", "before")]


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    for private, others in ((True, 0), (False, stat.S_IRGRP)):
        with atomic_file(tmp_path / "login", private=private) as unfinished:
            unfinished.write_text("secret")
        assert (tmp_path / "login").stat().st_mode & (stat.S_IRGRP | stat.S_IWOTH) == others


def test_a_long_name_fits(tmp_path: Path) -> None:
    with atomic_file(tmp_path / ("ü" * 120 + ".txt")) as unfinished:
        unfinished.write_text("")


def test_a_folder_replaces_the_one_before_it(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "deep" / "v1.2") as unfinished:
            (unfinished / text).write_text(text)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["v1.2"]
    assert [path.name for path in (tmp_path / "deep" / "v1.2").iterdir()] == ["second"]


def test_after_an_error_the_folder_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "old").touch()
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "v1") as unfinished:
        (unfinished / "missing" / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["v1", "v1/old"]


def test_a_process_that_is_killed_while_it_replaces_a_folder_leaves_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "weights").write_text("old")
    child = os.fork()
    if not child:
        rename = Path.rename

        def renamed(path: Path, target: Path) -> None:
            rename(path, target)
            os._exit(9)

        Path.rename = renamed  # type: ignore[assignment, method-assign]
        shutil.rmtree = lambda *given, **options: os._exit(9)  # type: ignore[assignment]
        with atomic_folder(tmp_path / "v1") as unfinished:
            (unfinished / "weights").write_text("new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / "v1" / "weights").read_text() in {"old", "new"}
