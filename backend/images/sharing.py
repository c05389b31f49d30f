"""Checkpoints and snapshots that machines share: uploaded by content, fetched where a data folder lacks them.

SQL knows the hash of each file, the store behind CAPTIONER_IMAGES_URL has it at `files/<2>/<sha256>`. Without such a
store nothing is uploaded or fetched: the data folder is all there is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from backend.domain.errors import UnreachableImageError
from backend.images.archive import ImageStore
from backend.images.cache import is_whole, not_stored
from backend.images.remote import Remote
from backend.settings import Settings
from backend.store.keeping.shared import SharedFiles
from backend.store.registry import NEW, Registry
from backend.store.store import Store
from training.captioner import checkpoint
from training.data import manifest
from training.errors import DataError
from training.runtime.files import atomic_file

log = logging.getLogger(__name__)

MANIFEST, RECORD = "manifest.jsonl", "snapshot.json"
SNAPSHOT = (MANIFEST, RECORD, NEW)
"""The files of a snapshot: its rows, a record of what they were frozen from, and the captions that its candidate was
the first to learn. Beside a manifest of another origin there may be anything."""


class Sharing:
    """Uploads and fetches folders of the data folder. Threads and processes may share it.

    Methods raise UnreachableImageError, in one sentence, when the store cannot be reached.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._known = settings, SharedFiles(store)
        self._remote = Remote(settings.images_url) if settings.images_url else None
        self._lock = settings.data_dir / "shared.lock"
        self._current: set[tuple[Path, str, str]] = set()  # files that were compared: folder, name and SHA-256

    @property
    def is_on(self) -> bool:
        """Whether there is a store."""
        return self._remote is not None

    def share(self, folder: Path, names: Iterable[str] = ()) -> None:
        """Upload the folder's files, or those of these names that exist, and let other machines know them."""
        if self._remote is None or not folder.is_relative_to(self._settings.data_dir):
            return
        found = [folder / name for name in names] or sorted(folder.rglob("*"))
        files: dict[str, str] = {}
        for path in found:
            if path.is_file() and not path.name.startswith("."):
                sha256 = manifest.hash_file(path)
                if not self._remote.has(_place(sha256)):
                    self._remote.put(_place(sha256), path)
                files[path.relative_to(folder).as_posix()] = sha256
        if files != self._known.of(folder):
            self._known.put(folder, files)

    def fetch(self, folder: Path, by_content: bool = True) -> None:
        """Fetch what the folder lacks, or has damaged, of the files that are shared.

        Without `by_content` a file that exists counts as undamaged. Raises ImageError when one cannot be written here.
        """
        if self._remote is None or not folder.is_relative_to(self._settings.data_dir):
            return

        def lacking() -> dict[str, str]:
            known = self._known.of(folder)
            return {
                name: sha256
                for name, sha256 in known.items()
                if not (is_whole(folder / name, sha256) if by_content else (folder / name).is_file())
            }

        if not lacking():
            return
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock):  # processes of one machine fetch once
            for name, sha256 in lacking().items():
                self._fetch(self._remote, folder / name, sha256)

    def fetch_checkpoint(self, folder: Path) -> None:
        """The same for a checkpoint; raises UnreachableImageError also where no machine has uploaded it yet."""
        self.fetch(folder)
        if self._remote is not None and folder.is_relative_to(self._settings.data_dir) and not folder.is_dir():
            raise UnreachableImageError(
                f"{folder.name} is not on this machine, and not in {self._remote} yet: a web process on the machine "
                "that has it uploads it."
            )

    def share_versions(self, registry: Registry) -> None:
        """Upload what this data folder has of versions that are not shared yet: those of `captioner connect` and `up`,
        and those from before there was a store."""
        if self._remote is None:
            return
        shared = self._known.folders()

        def is_new(folder: Path) -> bool:
            return folder not in shared and folder.is_relative_to(self._settings.data_dir)

        for version in registry.versions():
            if is_new(version.checkpoint) and version.checkpoint.is_dir():
                self.share(version.checkpoint)
            if version.manifest and is_new(version.manifest.parent) and version.manifest.is_file():
                self._share_snapshot(version.manifest)

    def withdraw(self, folder: Path) -> None:
        """Before a folder is made anew: let nobody fetch what an attempt that died has uploaded under its name."""
        if self._remote is not None and folder.is_relative_to(self._settings.data_dir):
            self._known.put(folder, {})

    def follow(self) -> None:
        """Fetch what another machine has changed of folders that are here, such as manifests from which something was
        forgotten. Weights are compared when they are loaded."""
        if self._remote is None:
            return
        for folder, files in self._known.everything().items():
            if not folder.is_dir():
                continue
            light = {(folder, name, sha256) for name, sha256 in files.items() if name != checkpoint.WEIGHTS}
            if all(is_whole(folder / name, sha256) for _, name, sha256 in light - self._current):
                self._current |= light
            else:
                self.fetch(folder)
            for path in (folder / "examples").glob("*"):
                if path.relative_to(folder).as_posix() not in files and not path.name.startswith("."):
                    path.unlink(missing_ok=True)

    def fetch_all(self) -> None:
        """Fetch all that this data folder lacks, or has damaged, of what is shared."""
        for folder in self._known.folders() if self._remote else ():
            self.fetch(folder)

    def share_again(self) -> None:
        """Upload what was changed here of shared folders, and delete what no folder has any more from the store."""
        if self._remote is None:
            return
        before = self._known.everything()
        for folder in before:
            self.share(folder, SNAPSHOT if (folder / MANIFEST).exists() else ())
        left = {sha256 for files in self._known.everything().values() for sha256 in files.values()}
        for sha256 in {sha256 for files in before.values() for sha256 in files.values()} - left:
            self._remote.remove(_place(sha256))

    def _share_snapshot(self, path: Path) -> None:
        images = ImageStore(self._settings)
        try:
            rows = images.restored(manifest.load(path), by_content=False)[0]
        except DataError as error:
            log.warning("%s", error)
        else:
            images.keep([row for row in rows if is_whole(row.image, row.sha256)])
        self.share(path.parent, SNAPSHOT)

    def _fetch(self, remote: Remote, path: Path, sha256: str) -> None:
        try:
            with atomic_file(path) as unfinished:
                if not remote.fetch(_place(sha256), unfinished):
                    raise UnreachableImageError(f"The store {remote} has no {path.parent.name}/{path.name}.")
                if not is_whole(unfinished, sha256):
                    raise UnreachableImageError(f"{path.parent.name}/{path.name} in {remote} is damaged and not used.")
        except OSError as error:
            raise not_stored(error, f"{path} could not be written") from error
        log.info("%s is fetched from %s.", path, remote)


def _place(sha256: str) -> str:
    return f"files/{sha256[:2]}/{sha256}"
