"""Arrays computed once an image and kept on disk: grids of a frozen encoder, or decoded pixels.

A folder holds `arrays` (all of one shape, one after the other), `index` (for each, in the same order, the SHA-256 of
the image file and a checksum of the array) and `shape.json`. It only grows, under a lock, arrays before index, so that
no reader and no crash meets half an entry. What does not fit its checksum is computed again.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from training import transforms
from training.encoder import features_hash
from training.errors import DataError
from training.manifest import Row
from training.model import BATCH, Captioner

log = logging.getLogger(__name__)


class DamagedError(Exception):
    """Arrays that are not what was written; `hashes` are their images'."""

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
        self._places: dict[str, int] = {}
        self._checksums: list[int] = []
        self._length = 0  # of the index that has been read, in bytes
        self._sound: set[int] = set()  # places whose checksum this process has compared
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
        return sha256 in self._places

    def add(self, hashes: Sequence[str], arrays: np.ndarray) -> None:
        """Append the arrays of these images, but not those that another process added meanwhile."""
        arrays = np.ascontiguousarray(arrays, dtype=self.kind)
        with self._lock:
            self._read_index()
            new = [number for number, sha256 in enumerate(hashes) if sha256 not in self._places]
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
        places = [self._places[sha256] for sha256 in hashes]
        stored = np.memmap(self._arrays, dtype=self.kind, mode="r", shape=(len(self._checksums), *self.shape))
        found = stored[places]
        damaged = []
        for sha256, place, array in zip(hashes, places, found, strict=True):
            if place not in self._sound:
                if zlib.crc32(array) != self._checksums[place]:
                    damaged.append(sha256)
                self._sound.add(place)
        if damaged:
            raise DamagedError(damaged)
        return found

    def forget(self, hashes: Sequence[str]) -> None:
        """Have the images computed again: what is added for them from now on counts."""
        for sha256 in hashes:
            self._places.pop(sha256, None)

    def _read_index(self) -> None:
        """Take in the lines that are new, under the lock; the newest line of an image counts."""
        if not self._index.exists():
            return
        held = self._arrays.stat().st_size // self._row_bytes if self._arrays.exists() else 0
        content = self._index.read_bytes()
        whole = content[self._length : content.rfind(b"\n") + 1].decode("ascii")
        for line in whole.splitlines(keepends=True)[: held - len(self._checksums)]:
            sha256, checksum = line.split()
            self._places[sha256] = len(self._checksums)
            self._checksums.append(int(checksum, 16))
            self._length += len(line)
        if self._length < len(content):  # a crash cut the last line, or lost the arrays of the last ones
            os.truncate(self._index, self._length)


class Inputs:
    """What is fed to the captioner for each of some rows: cached grids where its encoder is frozen, else pixels.

    `rows` are those that could be read; the others are logged and left out.
    """

    def __init__(
        self,
        captioner: Captioner,
        rows: Sequence[Row],
        cache_dir: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        side = captioner.transform.side
        self._captioner = captioner
        if captioner.encoder.frozen:
            shape = (captioner.encoder.cells(side), captioner.encoder.channels)
            name = f"grids-{features_hash(captioner.encoder, captioner.transform)[:16]}"
            self._cache = Cache(cache_dir / name, shape, "float16")
        else:
            self._cache = Cache(cache_dir / f"pixels-{side}px", (side, side, 3), "uint8")
        self._rows = {row.sha256: row for row in rows}
        self._fill(rows, progress or (lambda done, total: None))
        self.rows = [row for row in rows if row.sha256 in self._cache]

    def pixels_or_grid(self, hashes: Sequence[str]) -> torch.Tensor:
        """(B, S, S, 3) bytes or (B, P, C) half floats, on the captioner's device."""
        try:
            arrays = self._cache.get(hashes)
        except DamagedError as error:
            log.warning("%d of the cached arrays are damaged and are computed again.", len(error.hashes))
            self._cache.forget(error.hashes)
            training = self._captioner.training
            self._fill([self._rows[sha256] for sha256 in error.hashes], lambda done, total: None)
            self._captioner.train(training)
            if lost := [sha256 for sha256 in error.hashes if sha256 not in self._cache]:
                image = self._rows[lost[0]].image
                raise DataError(f"The cached entry of {image} is damaged, and the image cannot be read.") from error
            arrays = self._cache.get(hashes)
        return torch.from_numpy(arrays).to(self._captioner.device, non_blocking=True)

    def grid(self, hashes: Sequence[str]) -> torch.Tensor:
        """Grids (B, P, C) of these images, computed by the encoder where they are not cached."""
        stored = self.pixels_or_grid(hashes)
        return stored if self._captioner.encoder.frozen else self._captioner.encode(stored)

    def _fill(self, rows: Sequence[Row], progress: Callable[[int, int], None]) -> None:
        missing = list({row.sha256: row for row in rows if row.sha256 not in self._cache}.values())
        loaded = transforms.load_all([row.image for row in missing], self._captioner.transform.side)
        unread: list[DataError] = []
        self._captioner.eval()
        for first in range(0, len(missing), BATCH):
            progress(first, len(missing))
            batch = list(zip(missing[first : first + BATCH], islice(loaded, BATCH), strict=True))
            readable = [(row.sha256, pixels) for row, pixels in batch if isinstance(pixels, np.ndarray)]
            unread += [pixels for _, pixels in batch if isinstance(pixels, DataError)]
            if readable:
                self._cache.add([sha256 for sha256, _ in readable], self._prepare([pixels for _, pixels in readable]))
        if missing:
            progress(len(missing), len(missing))
        if unread:
            log.warning("%d of %d images are left out. %s", len(unread), len(rows), unread[0])

    def _prepare(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        stacked = np.stack(pixels)
        if not self._captioner.encoder.frozen:
            return stacked
        with torch.inference_mode():
            return self._captioner.encode(stacked).half().cpu().numpy()  # (B, P, C)
