"""Makes a backup of a data folder while everything runs.

The database is copied first: checkpoints and snapshots are written before it names them and do not change, so whatever
it names is there for the copies that follow. The list comes last, and makes what was copied a backup.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from backend.images.sharing import Sharing
from backend.settings import Settings
from backend.store.database import now
from backend.store.keeping.copying import copy_out, copy_sqlite
from backend.store.registry import Registry
from backend.store.store import Store
from backend.up.keeping.contents import (
    DATABASE,
    LABEL_STUDIO,
    LIST,
    LOCK,
    BackupError,
    Contents,
    File,
    exclusive,
    read,
    size,
    where,
)
from training.runtime.files import atomic_file

FOLDERS = ("models", "snapshots", "starter-scenes", "images", "label-studio")
"""Of the data folder. What else it holds is made again or belongs to what runs at the moment."""
_IMAGE = re.compile(r"images/../([0-9a-f]{64})\.\w{1,8}")

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Made:
    """A backup that was made: how many files it has, was given and lost, and which versions have no checkpoint."""

    made_at: str
    files: int
    copied: int
    removed: int
    images_left_out: int
    bytes: int
    copied_bytes: int
    without_checkpoint: list[str]


def check_place(settings: Settings, folder: Path) -> None:
    """Raises BackupError where no backup may be made into the folder."""
    here = folder.resolve()
    if here.is_relative_to(settings.data_dir.resolve()):
        raise BackupError(f"{folder} is in the data folder {settings.data_dir}: choose a folder elsewhere.")
    if here.exists() and not here.is_dir():
        raise BackupError(f"{folder} is no folder.")
    if here.is_dir() and any(here.iterdir()) and not (here / LIST).exists() and not (here / LOCK).exists():
        raise BackupError(f"{folder} is not empty and no backup: choose a new folder.")


def backup(
    settings: Settings, store: Store, folder: Path, with_images: bool = True, report: Report | None = None
) -> Made:
    """Bring the backup in the folder up to date; what it has already is not copied again. Raises CaptionerError.

    `report` is called with the bytes copied so far and all.
    """
    check_place(settings, folder)
    with exclusive(folder):
        return _Backup(settings, store, folder, with_images, report or (lambda done, total: None)).make()


class _Backup:
    def __init__(self, settings: Settings, store: Store, folder: Path, with_images: bool, report: Report) -> None:
        self._data_dir, self._store, self._folder = settings.data_dir, store, folder
        self._sharing = Sharing(settings, store)
        self._with_images, self._report = with_images, report
        self._old = read(folder).files if (folder / LIST).exists() else {}

    def make(self) -> Made:
        made_at = now().isoformat(timespec="seconds")
        self._check_space()
        databases, schema = self._databases()
        self._sharing.fetch_all()  # what other machines have made
        listed = dict(self._listed())
        left_out = {} if self._with_images else {path: each for path, each in listed.items() if _IMAGE.fullmatch(path)}
        wanted = {path: about for path, about in listed.items() if path not in left_out}
        new = {path: about for path, about in wanted.items() if not self._has(path, about)}
        files = {
            path: replace(about, sha256=self._old[path].sha256) for path, about in wanted.items() if path not in new
        }
        total, done = sum(about.bytes for about in new.values()), 0
        for path, about in new.items():
            with suppress(FileNotFoundError):  # an image that was dropped meanwhile, because others were used later
                files[path] = self._copy(path, about)
            self._report(done := done + about.bytes, total)
        for path, about in left_out.items():
            left_out[path] = replace(about, sha256=Path(path).stem)
        os.sync()
        release = f"label-studio-captioner {version('label-studio-captioner')}"
        Contents(made_at, release, schema, {**databases, **files}, left_out).save(self._folder)
        removed = self._prune({str(where(self._folder, *each)) for each in (*databases.items(), *files.items())})
        return Made(
            made_at,
            files=len(files) + len(databases),
            copied=len(new) + len(databases),
            removed=removed,
            images_left_out=len(left_out),
            bytes=sum(each.bytes for each in (*files.values(), *databases.values())),
            copied_bytes=total + sum(each.bytes for each in databases.values()),
            without_checkpoint=self._without_checkpoint(files),
        )

    def _databases(self) -> tuple[dict[str, File], str]:
        """Copies of the databases, stored under names with their hashes, and the schema of ours."""
        stored = {}
        with TemporaryDirectory(prefix=".copy-", dir=self._folder) as work:
            ours, theirs = Path(work) / "ours", Path(work) / "theirs"
            schema = copy_out(self._store, ours)
            stored[DATABASE] = self._store_copy(ours, DATABASE)
            if (self._data_dir / LABEL_STUDIO).exists():
                copy_sqlite(self._data_dir / LABEL_STUDIO, theirs)
                stored[LABEL_STUDIO] = self._store_copy(theirs, LABEL_STUDIO)
        return stored, schema

    def _store_copy(self, copy: Path, path: str) -> File:
        with copy.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = Path(path)
        stored = name.with_name(f"{name.stem}-{sha256[:12]}{name.suffix}")
        (self._folder / stored).parent.mkdir(exist_ok=True)
        copy.chmod(0o600)  # it holds captions and a token
        size_of = copy.stat().st_size
        copy.replace(self._folder / stored)
        return File(sha256, size_of, stored=str(stored))

    def _listed(self) -> Iterator[tuple[str, File]]:
        """The files of the data folder that belong to a backup, their hashes unknown."""
        for name in FOLDERS:
            for root, folders, names in os.walk(self._data_dir / name):
                folders[:] = sorted(each for each in folders if not _is_unfinished(each, name))
                for each in sorted(names):
                    file = Path(root) / each
                    path = file.relative_to(self._data_dir).as_posix()
                    if path.startswith(LABEL_STUDIO) or _is_unfinished(each, name) or file.is_symlink():
                        continue
                    with suppress(FileNotFoundError):
                        about = file.stat()
                        yield path, File("", about.st_size, about.st_mtime_ns)

    def _has(self, path: str, about: File) -> bool:
        """Whether the backup has the file as it is now. Each use of an image changes its time; its name is its hash."""
        old = self._old.get(path)
        if old is None or old.bytes != about.bytes or not (_IMAGE.fullmatch(path) or old.changed == about.changed):
            return False
        with suppress(OSError):
            return (self._folder / path).stat().st_size == about.bytes
        return False

    def _copy(self, path: str, about: File) -> File:
        digest = hashlib.sha256()
        source, target = self._data_dir / path, self._folder / path
        with source.open("rb") as file, atomic_file(target, private=True, durable=False) as unfinished:
            with unfinished.open("wb") as copy:
                while some := file.read(1 << 20):
                    digest.update(some)
                    copy.write(some)
            length = unfinished.stat().st_size
        return File(digest.hexdigest(), length, about.changed)

    def _check_space(self) -> None:
        """Raises BackupError where the disk has no space for what is new."""
        new = sum(
            about.bytes
            for path, about in self._listed()
            if (self._with_images or not _IMAGE.fullmatch(path)) and not self._has(path, about)
        )
        for path in (DATABASE, LABEL_STUDIO):
            with suppress(OSError):
                new += (self._data_dir / path).stat().st_size
        free = shutil.disk_usage(self._folder).free
        if new > free:
            raise BackupError(f"The backup needs {size(new)} in {self._folder}, and {size(free)} are free.")

    def _prune(self, kept: set[str]) -> int:
        """Remove what the data folder has no more, and older copies of databases; the number of files."""
        gone = 0
        for top in (*(self._folder / name for name in FOLDERS), self._folder):
            for file in top.rglob("*") if top != self._folder else top.glob(f"{Path(DATABASE).stem}-*"):
                if file.is_file() and str(file) not in kept:
                    file.unlink()
                    gone += 1
        return gone

    def _without_checkpoint(self, files: dict[str, File]) -> list[str]:
        names = []
        for each in Registry(self._store).versions():
            folder = each.checkpoint
            path = folder.relative_to(self._data_dir).as_posix() if folder.is_relative_to(self._data_dir) else ""
            if f"{path}/model.safetensors" not in files:
                names.append(each.name)
        return sorted(names)


def _is_unfinished(name: str, folder: str) -> bool:
    """Whether a file or folder is being written at the moment; Label Studio has hidden files of its own."""
    return (name.startswith(".") and folder != "label-studio") or name.endswith(".lock")


def told(made: Made, folder: Path) -> str:
    """What was made, in sentences."""
    lines = [
        f"{folder} holds the state of {made.made_at[:16].replace('T', ' ')} UTC: {made.files} files, "
        f"{size(made.bytes)}. "
        f"{made.copied} of them ({size(made.copied_bytes)}) were new or changed."
    ]
    if made.images_left_out:
        lines.append(f"{made.images_left_out} images are listed and not copied.")
    if made.without_checkpoint:
        names = ", ".join(made.without_checkpoint)
        lines.append(f"The data folder has no checkpoint of {names}, which cannot serve after a restore.")
    return "\n".join(lines)
