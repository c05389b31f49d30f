"""The image store: images of training snapshots by content, in the store that machines share.

The data folder's `images/` keeps every image of a snapshot by content, so by default it is the store. Another store
(CAPTIONER_IMAGES_URL: a folder, s3://, gs://, …) gets every image of a snapshot before the snapshot is frozen, and
restores those that are missing or damaged in the data folder, so that a retrain uses the same pairs when their source
is gone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from backend.domain.errors import ImageError
from backend.images.cache import is_whole, not_stored, write
from backend.images.remote import Remote
from backend.settings import Settings
from training.data.manifest import Row

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Images checked, uploaded or restored at the same time."""
_HASH = re.compile("[0-9a-f]{64}")
_NAME = re.compile(rf"({_HASH.pattern})\.\w{{1,8}}")


class ImageStore:
    """The images at `<2>/<sha256>.<ext>` in the data folder and in the configured store.

    An instance serves one retrain: it lists the store once. Threads may share it. Any error of the store becomes an
    UnreachableImageError, in one sentence.
    """

    def __init__(self, settings: Settings) -> None:
        self._here = settings.data_dir / "images"
        self._remote = Remote(settings.images_url) if settings.images_url else None
        self._listed: dict[str, dict[str, str]] = {}  # by two digits: SHA-256 -> name

    def __str__(self) -> str:
        return str(self._remote or self._here)

    @property
    def _reached(self) -> Remote:
        assert self._remote is not None
        return self._remote

    def keep(self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None) -> None:
        """Upload every image of the rows that the store lacks; `progress` is called with images so far and all.

        Raises ImageError for an image that is damaged or missing here.
        """
        if self._remote is None:
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._names, {row.sha256[:2] for row in rows}))  # each listing is a request
            new = {row.sha256: row for row in rows if row.sha256 not in self._names(row.sha256)}
            for done, _ in enumerate(pool.map(self._put, new.values()), start=1):
                if progress:
                    progress(done, len(new))

    def restored(self, rows: Sequence[Row], by_content: bool = True) -> tuple[list[Row], list[Row]]:
        """The rows, missing or damaged images replaced by restored ones, and the rows whose image is lost.

        Lost rows stay among the first as they were. Without `by_content` an existing file counts as undamaged, which is
        much faster.
        """

        def is_there(row: Row) -> bool:
            return is_whole(row.image, row.sha256) if by_content else row.image.is_file()

        rows = [self._kept_here(row) for row in rows]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            there = list(pool.map(is_there, rows) if by_content else map(is_there, rows))
            away = {row.sha256 for row, is_here in zip(rows, there, strict=True) if not is_here}
            found = dict(zip(away, pool.map(self.find, away), strict=True))
        restored = [
            row if is_here or not (path := found[row.sha256]) else replace(row, image=path)
            for row, is_here in zip(rows, there, strict=True)
        ]
        lost = [row for row, is_here in zip(rows, there, strict=True) if not is_here and not found[row.sha256]]
        return restored, lost

    def find(self, sha256: str | None) -> Path | None:
        """The image's undamaged file in the data folder, restored from the store if need be; None where it is lost.

        Raises ImageError when it cannot be written here.
        """
        path = self.here(sha256)
        if not _is_hash(sha256) or (path and is_whole(path, sha256)):
            return path
        name = self._names(sha256).get(sha256) if self._remote else None
        if name is None:
            return None
        content = self._reached.read(f"{sha256[:2]}/{name}")
        if content is None:
            return None
        if hashlib.sha256(content).hexdigest() != sha256:
            log.warning("The image %s/%s in %s is damaged and not used.", sha256[:2], name, self)
            return None
        path = self._here / sha256[:2] / name
        try:
            write(path, content)
        except OSError as error:
            raise not_stored(error, f"The image {path} could not be restored") from error
        return path

    def here(self, sha256: str | None) -> Path | None:
        """The image's file in the data folder, unchecked."""
        return next(self._files(sha256), None) if _is_hash(sha256) else None

    def _files(self, sha256: str) -> Iterator[Path]:
        return (path for path in (self._here / sha256[:2]).glob(f"{sha256}.*") if _NAME.fullmatch(path.name))

    def forget(self, sha256: str) -> int:
        """Delete the image here, in the configured store, and in the index of the cache; how many files that were.

        Raises UnreachableImageError when the configured store cannot be reached; nothing is deleted then.
        """
        files = 0
        if self._remote and (name := self._names(sha256).pop(sha256, None)):
            files += self._remote.remove(f"{sha256[:2]}/{name}")
        for entry in self._here.glob("index/??/*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                if json.loads(entry.read_bytes())["sha256"] == sha256:
                    entry.unlink()
        for path in list(self._files(sha256)):
            path.unlink(missing_ok=True)
            files += 1
        return files

    def _kept_here(self, row: Row) -> Row:
        """The row with its image in this data folder, where the manifest was written in another one.

        A restored or copied folder must not use images of the original, which may still be there.
        """
        folder = row.image.parent
        if folder.parent == self._here or folder.parent.name != self._here.name or not _NAME.fullmatch(row.image.name):
            return row
        path = self._here / folder.name / row.image.name
        return replace(row, image=path) if path.is_file() else row

    def _put(self, row: Row) -> None:
        try:
            content = row.image.read_bytes()
        except OSError as error:
            raise ImageError(f"The image {row.image} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise ImageError(f"The image {row.image} has changed while it was being uploaded.")
        name = row.sha256 + row.image.suffix.lower()
        self._reached.put(f"{row.sha256[:2]}/{name}", content)
        self._names(row.sha256)[row.sha256] = name

    def _names(self, sha256: str) -> dict[str, str]:
        """Names of the store's images with the same two first digits, by SHA-256."""
        first = sha256[:2]
        if first not in self._listed:
            found = (_NAME.fullmatch(name) for name in self._reached.names(first))
            self._listed[first] = {match[1]: match[0] for match in found if match}
        return self._listed[first]


def _is_hash(sha256: str | None) -> TypeGuard[str]:
    return sha256 is not None and _HASH.fullmatch(sha256) is not None
