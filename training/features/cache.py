"""Arrays computed once an image and kept on disk.

A folder holds `arrays` (all of one shape, one after the other), `index` (for each, in the same order, the SHA-256 of
the image file and a checksum of the array) and `shape.json`. It only grows, under a lock, arrays before index, so that
neither a reader nor a crash leaves half an entry. An array that does not match its checksum is computed again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from training.errors import DataError


class DamagedError(Exception):
    """Arrays that differ from what was written; `hashes` are those of their images."""

    def __init__(self, hashes: Sequence[str]) -> None:
        super().__init__(hashes)
        self.hashes = hashes


class Cache:
    """Arrays of one shape and kind by image content. Several processes may grow it at the same time."""

    def __init__(self, folder: Path, shape: tuple[int, ...], kind: str) -> None:
        """Raises DataError when the folder holds arrays of another shape or cannot be written."""
        self.shape, self.kind = shape, np.dtype(kind)
        self._arrays, self._index = folder / "arrays", folder / "index"
        self._lock = FileLock(folder / "lock")
        self._row_bytes = int(np.prod(shape)) * self.kind.itemsize
        self._positions: dict[str, int] = {}
        self._checksums: list[int] = []
        self._length = 0  # of the index that has been read, in bytes
        self._sound: set[int] = set()  # positions whose checksum this process has compared
        description: Any = {"shape": list(shape), "kind": self.kind.str}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._lock:
                about = folder / "shape.json"
                if not about.exists():
                    about.write_text(json.dumps(description))
                if json.loads(about.read_text()) != description:
                    raise DataError(f"The cache {folder} holds arrays of another shape; delete the folder.")
                self._read_index()
        except (OSError, ValueError) as error:
            raise DataError(f"The cache {folder} cannot be used: {error}; delete the folder.") from error

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._positions

    def add(self, hashes: Sequence[str], arrays: np.ndarray) -> None:
        """Append the arrays of these images, but not those that another process added meanwhile."""
        arrays = np.ascontiguousarray(arrays, dtype=self.kind)
        with self._lock:
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
        """The arrays (N, *shape) of these images, which must be there.

        Each is compared with its checksum when this process reads it first. Raises DamagedError.
        """
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

    def _read_index(self) -> None:
        """Take in the lines that are new, under the lock; the newest line of an image counts."""
        if not self._index.exists():
            return
        complete = self._arrays.stat().st_size // self._row_bytes if self._arrays.exists() else 0
        content = self._index.read_bytes()
        whole = content[self._length : content.rfind(b"\n") + 1].decode("ascii")
        for line in whole.splitlines(keepends=True)[: complete - len(self._checksums)]:
            sha256, checksum = line.split()
            self._positions[sha256] = len(self._checksums)
            self._checksums.append(int(checksum, 16))
            self._length += len(line)
        if self._length < len(content):  # a crash cut the last line, or lost the arrays of the last ones
            os.truncate(self._index, self._length)
