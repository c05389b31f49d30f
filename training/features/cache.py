"""Arrays computed once an image and kept on disk.

A folder holds `arrays` (all of one shape, one after the other), `index` (for each, in the same order, the SHA-256 of
the image file and a checksum of the array), `used` (when each was last used) and `shape.json`. It grows under a lock,
arrays before index, so that neither a reader nor a crash leaves half an entry. An array that does not match its
checksum is computed again.

Arrays are dropped without a second copy of the others: the last ones take their places, then a new index replaces the
old one. Readers share the lock, and read the index again where theirs was replaced.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from training.errors import DataError
from training.runtime.files import atomic_file

_LINE = re.compile(rb"([!-~]+) ([0-9a-f]{8})\n")


class DamagedError(Exception):
    """Arrays that differ from what was written, or were dropped; `hashes` are those of their images."""

    def __init__(self, hashes: Sequence[str]) -> None:
        super().__init__(hashes)
        self.hashes = hashes


class Entry(NamedTuple):
    """What a cache holds of an image: its name there, when it was last used (seconds since 1970), and its bytes."""

    name: str
    used: float
    size: int


class Cache:
    """Arrays of one shape and kind by image content. Several processes may grow it at the same time."""

    def __init__(self, folder: Path, shape: tuple[int, ...], kind: str) -> None:
        """Raises DataError when the folder holds arrays of another shape or cannot be written."""
        self.shape, self.kind = shape, np.dtype(kind)
        self._folder = folder
        self._arrays, self._index, self._used = folder / "arrays", folder / "index", folder / "used"
        self._lock = FileLock(folder / "lock")
        self._row_bytes = int(np.prod(shape)) * self.kind.itemsize
        self._positions: dict[str, int] = {}
        self._checksums: list[int] = []
        self._length = 0  # of the index that has been read, in bytes
        self._sound: set[int] = set()  # positions whose checksum this process has compared
        self._read: Any = None  # the index as it was opened: a file that was replaced has no name any more
        description: Any = {"shape": list(shape), "kind": self.kind.str}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._lock:
                about = folder / "shape.json"
                known = _known(about)
                if known is None:  # what there is of another shape fails its checksums
                    with atomic_file(about) as unfinished:
                        unfinished.write_text(json.dumps(description))
                elif known != description:
                    raise DataError(f"The cache {folder} holds arrays of another shape; delete the folder.")
                self._read_index()
        except OSError as error:
            raise DataError(f"The cache {folder} cannot be used: {error}.") from error

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._positions

    @classmethod
    def opened(cls, folder: Path) -> Cache:
        """The cache in a folder, of whatever it holds. Raises DataError."""
        try:
            about = json.loads((folder / "shape.json").read_text())
            return cls(folder, tuple(about["shape"]), about["kind"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"The cache {folder} cannot be used: {error}; delete the folder.") from error

    def add(self, hashes: Sequence[str], arrays: np.ndarray) -> None:
        """Append the arrays of these images, but not those that another process added meanwhile. Raises DataError."""
        arrays = np.ascontiguousarray(arrays, dtype=self.kind)
        with self._writing():
            self._read_index()
            new = [number for number, sha256 in enumerate(hashes) if sha256 not in self._positions]
            with self._arrays.open("ab") as file:
                file.truncate(len(self._checksums) * self._row_bytes)  # what a crash left without an index line
                file.write(arrays[new].tobytes())
                file.flush()
                os.fsync(file.fileno())
            with self._index.open("a", encoding="ascii") as file:
                file.writelines(f"{hashes[number]} {zlib.crc32(arrays[number]):08x}\n" for number in new)
            self._read_index()

    def get(self, hashes: Sequence[str]) -> np.ndarray:
        """The arrays (N, *shape) of these images.

        Each is compared with its checksum when this process reads it first. Raises DamagedError.
        """
        while True:
            with (self._folder / "lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if not self._is_replaced():
                    return self._get(hashes)
            with self._lock:
                self._read_index()

    def _get(self, hashes: Sequence[str]) -> np.ndarray:
        if dropped := [sha256 for sha256 in hashes if sha256 not in self._positions]:
            raise DamagedError(dropped)
        positions = [self._positions[sha256] for sha256 in hashes]
        stored = np.memmap(self._arrays, dtype=self.kind, mode="r", shape=(len(self._checksums), *self.shape))
        arrays = stored[positions]
        damaged = []
        for sha256, position, array in zip(hashes, positions, arrays, strict=True):
            if position not in self._sound:
                if zlib.crc32(array) != self._checksums[position]:
                    damaged.append(sha256)
                self._sound.add(position)
        if damaged:
            raise DamagedError(damaged)
        return arrays

    def forget(self, hashes: Sequence[str]) -> None:
        """Forget the images, so that arrays that are added for them from now on are used."""
        for sha256 in hashes:
            self._positions.pop(sha256, None)

    def refresh(self) -> None:
        """Take in what other processes have added."""
        with self._lock:
            self._read_index()

    def touch(self, hashes: Collection[str]) -> None:
        """Note that these images are used now. Raises DataError."""
        with self._writing():
            self._read_index()
            used = self._last_used()
            used[[self._positions[sha256] for sha256 in hashes if sha256 in self._positions]] = time.time()
            self._used.write_bytes(used.tobytes())

    def entries(self) -> list[Entry]:
        """All that it holds."""
        used = self._last_used()
        return [Entry(name, float(used[at]), self._row_bytes) for name, at in self._positions.items()]

    def drop(self, names: Collection[str]) -> None:
        """Drop these entries and give their disk space back. Raises DataError."""
        with self._writing():
            self._read_index()
            used, checksums = self._last_used(), self._checksums
            gone = set(names)
            kept = {at: name for name, at in self._positions.items() if name not in gone}
            free = [at for at in range(len(kept)) if at not in kept]
            moved = dict(zip(sorted(at for at in kept if at >= len(kept)), free, strict=True))
            if moved:
                stored = np.memmap(self._arrays, dtype=self.kind, mode="r+", shape=(len(checksums), *self.shape))
                for before, after in moved.items():
                    stored[after] = stored[before]
                stored.flush()
            order = sorted(kept, key=lambda at: moved.get(at, at))
            with atomic_file(self._index) as unfinished:  # a crash before leaves arrays that fail their checksums
                unfinished.write_text("".join(f"{kept[at]} {checksums[at]:08x}\n" for at in order), "ascii")
            self._used.write_bytes(used[order].tobytes())
            if self._arrays.exists():
                os.truncate(self._arrays, len(kept) * self._row_bytes)
            self._read_index()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except OSError as error:
            raise DataError(f"The cache {self._folder} cannot be written: {error.strerror or error}.") from error

    def _last_used(self) -> np.ndarray:
        """When each position was used (seconds since 1970); 0 where nothing is known."""
        known = np.fromfile(self._used, np.float64) if self._used.exists() else np.zeros(0)
        used = np.zeros(len(self._checksums))
        used[: len(known)] = known[: len(used)]
        return used

    def _is_replaced(self) -> bool:
        return self._read is not None and os.fstat(self._read.fileno()).st_nlink == 0

    def _read_index(self) -> None:
        """Take in the lines that are new, under the lock; the newest line of an image counts."""
        if not self._index.exists():
            return
        if self._is_replaced():
            self._read.close()
            self._read, self._length = None, 0
            self._positions.clear()
            self._checksums.clear()
            self._sound.clear()
        if self._read is None:
            self._read = self._index.open("rb")
        complete = self._arrays.stat().st_size // self._row_bytes if self._arrays.exists() else 0
        content = self._index.read_bytes()
        lines = content[self._length : content.rfind(b"\n") + 1].splitlines(keepends=True)
        for line in lines[: complete - len(self._checksums)]:
            if not (found := _LINE.fullmatch(line)):
                break
            self._positions[found[1].decode()] = len(self._checksums)
            self._checksums.append(int(found[2], 16))
            self._length += len(line)
        if self._length < len(content):  # a crash cut or damaged a line, or lost the arrays of the last ones
            os.truncate(self._index, self._length)


def _known(about: Path) -> Any:
    """What the file says; None where there is none, or none that can be read."""
    try:
        return json.loads(about.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
