"""What a captioner is fed in training: of each image that which stays the same, computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from training import transforms
from training.cache import Cache, DamagedError
from training.encoder import features_hash
from training.errors import DataError
from training.manifest import Row
from training.model import BATCH, Captioner

log = logging.getLogger(__name__)


def cache_of(captioner: Captioner, cache_dir: Path) -> Cache:
    """What is kept in `cache_dir` of images as this captioner sees them. Raises DataError as Cache does."""
    encoder, side = captioner.encoder, captioner.transform.side
    if encoder.keeps == "pixels":
        return Cache(cache_dir / f"pixels-{side}px", (side, side, 3), "uint8")
    shape = (encoder.cells(side), encoder.channels) if encoder.keeps == "grid" else encoder.maps_shape(side)
    name = f"{encoder.keeps}-{features_hash(encoder, captioner.transform)[:16]}"
    return Cache(cache_dir / name, shape, "float16")


class Inputs:
    """What is fed to the captioner for each of some rows: grids where its encoder is frozen, the maps of its frozen
    layers where its last ones are trained, else pixels; all from the cache.

    `rows` are those that could be read; the others are logged and left out.
    """

    def __init__(
        self,
        captioner: Captioner,
        rows: Sequence[Row],
        cache_dir: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._captioner = captioner
        self._cache = cache_of(captioner, cache_dir)
        self._rows = {row.sha256: row for row in rows}
        self._fill(rows, progress or (lambda done, total: None))
        self.rows = [row for row in rows if row.sha256 in self._cache]

    def stored(self, hashes: Sequence[str]) -> torch.Tensor:
        """Pixels (B, S, S, 3) in bytes, maps (B, C', H', W') or grids (B, P, C) in half floats, on the captioner's
        device."""
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
        """Grids (B, P, C) of these images, as far as the encoder computes them anew each time."""
        return self._captioner.see(self.stored(hashes))

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
        keeps = self._captioner.encoder.keeps
        if keeps == "pixels":
            return stacked
        with torch.inference_mode():
            kept = self._captioner.encode(stacked) if keeps == "grid" else self._captioner.trunk(stacked)
        return kept.half().cpu().contiguous().numpy()
