"""What a backup folder holds: a file that lists every other one with its hash. A backup without it is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from backend.domain.errors import CaptionerError
from training.runtime.files import atomic_file, is_full

FORMAT = 1
LIST, LOCK = "backup.json", ".backup.lock"
DATABASE = "captioner.db"
LABEL_STUDIO = "label-studio/label_studio.sqlite3"


class BackupError(CaptionerError):
    """A backup cannot be made, or is none that can be restored."""


@dataclass(frozen=True)
class File:
    """A file of the data folder: its hash, its size, and when it was changed: one that was not is not read again.

    `stored` is its path in the backup where that is another one: databases are stored under names with their hashes,
    so that a backup that is interrupted leaves the one before it whole.
    """

    sha256: str
    bytes: int
    changed: int = 0
    stored: str = ""


@dataclass(frozen=True)
class Contents:
    """A whole backup. `files` are by their paths in the data folder; `left_out` are images that are listed only."""

    made_at: str
    release: str
    schema: str
    files: dict[str, File] = field(default_factory=dict)
    left_out: dict[str, File] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        with atomic_file(folder / LIST, private=True) as unfinished:
            unfinished.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=0), encoding="utf-8")


def read(folder: Path) -> Contents:
    """The contents of the backup in the folder. Raises BackupError where it is none."""
    try:
        found = json.loads((folder / LIST).read_bytes())
        if found.pop("format") != FORMAT:
            raise BackupError(f"The backup {folder} was made by a newer release: restore it with that one.")
        files = {name: {path: File(**about) for path, about in found[name].items()} for name in ("files", "left_out")}
        contents = Contents(**{**found, **files})
    except FileNotFoundError as error:
        raise BackupError(f"{folder} is no whole backup: it has no {LIST}. `captioner backup` makes one.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"The list {folder / LIST} of the backup cannot be read: {error}.") from error
    for path, about in (*contents.files.items(), *contents.left_out.items()):
        if any(not _is_inside(each) for each in (path, about.stored or path)):
            raise BackupError(f"The list {folder / LIST} names a file outside the data folder: {path!r}.")
    return contents


def where(folder: Path, path: str, about: File) -> Path:
    """Where the backup has the file of that path in the data folder."""
    return folder / (about.stored or path)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Inside, no other backup is made into the folder. Errors of the disk become a BackupError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise BackupError(f"Another backup into {folder} is being made: wait for it.") from error
    except OSError as error:
        raise no_disk(folder, error) from error


def no_disk(folder: Path, error: OSError) -> BackupError:
    reason = "the disk is full; free some space" if is_full(error) else f"{error.strerror or error}"
    return BackupError(f"{folder} cannot be written: {reason}.")


def size(number: int) -> str:
    """Bytes as people read them."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def _is_inside(path: str) -> bool:
    return not Path(path).is_absolute() and ".." not in Path(path).parts
