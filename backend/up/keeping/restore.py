"""Restores a backup into a data folder that nobody uses.

Everything is copied beside its place and compared with its hash before anything is moved. What the folder held moves
into a folder within it; the database comes last.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from backend.settings import Settings
from backend.store.database import now
from backend.store.keeping.copying import check_known, copy_in
from backend.store.store import Store
from backend.system import in_use
from backend.up.keeping.contents import DATABASE, BackupError, Contents, no_disk, read, size, where

ASIDE, UNFINISHED = "before-restore-", ".restoring-"
"""How the folders begin that hold what a data folder had before, and what is being copied."""
NAMED = 3
"""So many damaged files are named."""


@dataclass(frozen=True)
class Restored:
    """What was restored: the state of `made_at`, into `data_dir`; `aside` has what that folder held before."""

    made_at: str
    data_dir: str
    files: int
    bytes: int
    images_left_out: int
    aside: str | None


def held(settings: Settings) -> list[Path]:
    """What the data folder holds that a restore moves aside."""
    if not settings.data_dir.is_dir():
        return []
    entries = sorted(settings.data_dir.iterdir())
    return [each for each in entries if not each.name.startswith((ASIDE, UNFINISHED))]


def check(settings: Settings, folder: Path) -> Contents:
    """The contents of the backup in the folder. Raises CaptionerError where it cannot be restored now."""
    contents = read(folder)
    check_known(contents.schema)
    if settings.data_dir.resolve().is_relative_to(folder.resolve()):
        raise BackupError(f"{settings.data_dir} is in the backup {folder}: choose another --data-dir.")
    with in_use.alone(settings.data_dir):
        pass
    if not _is_ours(settings):
        store = Store(settings.database_url, settings.data_dir)
        schema, shown = store.schema(), store.url.render_as_string()
        store.close()
        if schema != "missing":
            raise BackupError(f"The database {shown} has tables already: name an empty one in DATABASE_URL.")
    needed = sum(each.bytes for each in contents.files.values())
    free = shutil.disk_usage(settings.data_dir).free
    if needed > free:
        raise BackupError(f"The backup needs {size(needed)} in {settings.data_dir}, and {size(free)} are free.")
    return contents


def restore(settings: Settings, folder: Path, report: Callable[[int, int], None] | None = None) -> Restored:
    """Restore the backup; `report` is called with the bytes copied so far and all. Raises CaptionerError."""
    contents = check(settings, folder)
    data_dir = settings.data_dir
    with in_use.alone(data_dir):
        for leftover in data_dir.glob(f"{UNFINISHED}*"):  # of a restore that was interrupted
            shutil.rmtree(leftover)
        unfinished = data_dir / f"{UNFINISHED}{uuid4().hex[:8]}"
        try:
            _copy(folder, contents, unfinished, report or (lambda done, total: None))
            if not _is_ours(settings):
                store = Store(settings.database_url, data_dir)
                copy_in(unfinished / DATABASE, store)
                store.close()
                (unfinished / DATABASE).unlink()
            aside = _move_aside(settings)
            for entry in sorted(unfinished.iterdir(), key=lambda each: each.name == DATABASE):
                entry.rename(data_dir / entry.name)
        except OSError as error:
            raise no_disk(data_dir, error) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    total = sum(each.bytes for each in contents.files.values())
    images = len(contents.left_out)
    return Restored(contents.made_at, str(data_dir), len(contents.files), total, images, str(aside) if aside else None)


def told(restored: Restored) -> str:
    """What was restored, in sentences."""
    lines = [
        f"{restored.data_dir} has the state of {restored.made_at[:16].replace('T', ' ')} UTC: {restored.files} files, "
        f"{size(restored.bytes)}, each as its hash says."
    ]
    if restored.images_left_out:
        lines.append(f"{restored.images_left_out} images are not in the backup; they are fetched when they are needed.")
    if restored.aside:
        lines.append(f"What the folder held before is in {restored.aside}.")
    lines.append("After the start, `captioner reconcile` takes in what was captioned since the backup.")
    return "\n".join(lines)


def _is_ours(settings: Settings) -> bool:
    """Whether the database is the file in the data folder."""
    return settings.database_url == f"sqlite:///{settings.data_dir / DATABASE}"


def _copy(folder: Path, contents: Contents, unfinished: Path, report: Callable[[int, int], None]) -> None:
    """Copy every file of the backup. Raises BackupError where one is another than the list says."""
    total, done = sum(each.bytes for each in contents.files.values()), 0
    damaged = []
    unfinished.mkdir(mode=0o700)
    for path, about in contents.files.items():
        source, target = where(folder, path, about), unfinished / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        try:
            with source.open("rb") as file, target.open("xb") as copy:
                target.chmod(0o600)
                while some := file.read(1 << 20):
                    digest.update(some)
                    copy.write(some)
        except FileNotFoundError:
            pass
        if digest.hexdigest() != about.sha256:
            damaged.append(path)
        report(done := done + about.bytes, total)
    if damaged:
        named = ", ".join(damaged[:NAMED]) + (f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else "")
        raise BackupError(
            f"The backup {folder} is damaged, and nothing was changed: {named} missing or not as listed. Run "
            f"`captioner backup` into it again, or restore another one."
        )


def _move_aside(settings: Settings) -> Path | None:
    """Move what the data folder holds into a folder within it: a folder that is mounted cannot be renamed itself."""
    entries = held(settings)
    if not entries:
        return None
    aside = settings.data_dir / f"{ASIDE}{now():%Y-%m-%dT%H-%M-%S}"
    aside.mkdir()
    for entry in sorted(entries, key=lambda each: not each.name.startswith(DATABASE)):
        entry.rename(aside / entry.name)
    return aside
