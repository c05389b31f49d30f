"""What a captioner is trained on: of each image its grid or its pixels, computed once and cached."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol, get_args

import numpy as np
import torch

from training.captioner.captioner import BATCH, Captioner
from training.data import transforms
from training.data.manifest import TRAIN, Row
from training.errors import DataError
from training.features.cache import Cache, DamagedError
from training.networks.encoder import Views, features_hash
from training.runtime import out_of_memory

log = logging.getLogger(__name__)

MIRRORED = "-mirrored"
"""Follows the hash of an image in the key of its mirror image."""
SINGLE_VIEWS: dict[str, Views] = {"-full": "full_scale", "-small": "small_mirrored"}
"""What follows the hash in the keys of grids of a single view."""
FULL_SCALE, SMALL_MIRRORED = SINGLE_VIEWS


class Processes(Protocol):
    """Processes that train together: the number of this one, how many there are, and a wait for all."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def wait(self) -> None: ...


def cache_of(captioner: Captioner, cache_dir: Path) -> Cache:
    """The cache in `cache_dir` of what this captioner is trained on. Raises DataError as Cache does."""
    encoder, side = captioner.encoder, captioner.transform.side
    if not encoder.frozen:
        return Cache(cache_dir / f"pixels-{captioner.side}px", (captioner.side, captioner.side, 3), "uint8")
    name = f"grid-{features_hash(encoder, captioner.transform)[:16]}"
    return Cache(cache_dir / name, (encoder.cells(side), encoder.channels), "float16")


class Inputs:
    """The inputs of the captioner for some rows: grids where its encoder is frozen, else pixels; all from the cache.

    `rows` are those that could be read; the others are logged and left out. An image is asked for by its key: its hash,
    followed by MIRRORED for its mirror image, which rows of split "train" have with `mirrored`. Grids of an encoder
    with mirrored views are not cached twice for that, but flipped.

    Where a grid is the mean of several views, those of `two_views` rows are cached for two single views instead, one at
    full scale and a small mirrored one. They are trained on the mean of these two, where that costs less; or, with
    `varied`, on a point between them that is drawn anew each time, against overfitting.

    Processes of a `group` compute a share of the images each, so that none waits long for another.
    """

    def __init__(
        self,
        captioner: Captioner,
        rows: Sequence[Row],
        cache_dir: Path,
        progress: Callable[[int, int], None] | None = None,
        mirrored: bool = False,
        two_views: Sequence[Row] = (),
        varied: bool = False,
        group: Processes | None = None,
    ) -> None:
        self._captioner = captioner
        self._cache = cache_of(captioner, cache_dir)
        encoder = captioner.encoder
        self._flips = encoder.frozen and encoder.mirrors
        pays = encoder.frozen and (len(encoder.config.views) > 1 if varied else self._two_views_cost_less())
        self._two_views, self._varied = {row.sha256 for row in two_views} if pays else set(), varied
        keys = [(row.sha256, row) for row in rows]
        if mirrored and not self._flips:
            keys += [(row.sha256 + MIRRORED, row) for row in rows if row.split == TRAIN]
        self._entries = {entry: row for key, row in keys for entry in self._entries_of(key)}  # as the cache names them
        # an image that is trained on may also be one to validate by, which takes the grid that captions are made of
        trained = {(row.sha256, row.split) for row in two_views}
        self._entries |= {row.sha256: row for row in rows if (row.sha256, row.split) not in trained}
        entries, progress = list(self._entries), progress or (lambda done, total: None)
        if group and group.size > 1:
            mine = [entry for entry in entries if zlib.crc32(_image(entry).encode()) % group.size == group.rank]
            self._fill(mine, progress)
            group.wait()
            self._cache.refresh()  # what is missing now cannot be read, or lies on the disk of another machine
        self._fill(entries, progress)
        self._cache.touch(self._entries)
        lost = {row.sha256 for entry, row in self._entries.items() if entry not in self._cache}
        self.rows = [row for row in rows if row.sha256 not in lost]

    def stored(self, keys: Sequence[str]) -> torch.Tensor:
        """Pixels (B, S, S, 3) in bytes, or grids (B, P, C) in half floats, on the captioner's device."""
        if not self._two_views or all(key in self._entries for key in keys):
            return self._read(keys)
        return self._between([(key,) if key in self._entries else self._entries_of(key) for key in keys], 0.5)

    def shown(self, keys: Sequence[str]) -> torch.Tensor:
        """The same for a training step."""
        if not self._two_views:
            return self._read(keys)
        share = torch.rand(len(keys), 1, 1, device=self._captioner.device) if self._varied else 0.5
        return self._between([self._entries_of(key) for key in keys], share)

    def grid(self, keys: Sequence[str]) -> torch.Tensor:
        """Grids (B, P, C), computed now where the encoder is not frozen."""
        return self._captioner.grids(self.stored(keys))

    def _between(self, entries: Sequence[Sequence[str]], share: torch.Tensor | float) -> torch.Tensor:
        """Grids (B, P, C) a `share` of the way from the first of an image's entries to its last."""
        first, last = (self._read([each[place] for each in entries]) for place in (0, -1))
        return torch.lerp(first.float(), last.float(), share)

    def _read(self, entries: Sequence[str]) -> torch.Tensor:
        """What is cached, flipped where the names say so."""
        if not self._flips:
            return self._cached(entries)
        grids = self._cached([entry.removesuffix(MIRRORED) for entry in entries])
        side = math.isqrt(grids.shape[1])
        flipped = grids.unflatten(1, (side, side)).flip(2).flatten(1, 2)  # (B, P, C)
        mirrored = torch.tensor([entry.endswith(MIRRORED) for entry in entries], device=grids.device)
        return torch.where(mirrored[:, None, None], flipped, grids)

    def _two_views_cost_less(self) -> bool:
        """Whether two views of an image cost less than all."""
        encoder, side = self._captioner.encoder, self._captioner.transform.side
        two = encoder.pixels("full_scale", side) + encoder.pixels("small_mirrored", side)
        return two < encoder.pixels("averaged", side)

    def _entries_of(self, key: str) -> tuple[str, ...]:
        """The names in the cache of what is trained on for this key."""
        image, mirrored, _ = key.partition(MIRRORED)
        both = (image + FULL_SCALE + mirrored, image + SMALL_MIRRORED + mirrored)
        return both if image in self._two_views else (key,)

    def _cached(self, entries: Sequence[str]) -> torch.Tensor:
        try:
            arrays = self._cache.get(entries)
        except DamagedError as error:
            log.warning("%d of the cached arrays are damaged or gone and are computed again.", len(error.hashes))
            self._cache.forget(error.hashes)
            training = self._captioner.training
            self._fill(error.hashes, lambda done, total: None)
            self._captioner.train(training)
            if lost := [entry for entry in error.hashes if entry not in self._cache]:
                image = self._entries[lost[0]].image
                raise DataError(f"The cached entry of {image} is damaged, and the image cannot be read.") from error
            arrays = self._cache.get(entries)
        return torch.from_numpy(arrays).to(self._captioner.device, non_blocking=True)

    def _fill(self, entries: Sequence[str], progress: Callable[[int, int], None]) -> None:
        missing: dict[str, dict[Views, str]] = {}  # by key, the missing entries
        for entry in entries:
            if entry not in self._cache:
                views, key = _split(entry)
                missing.setdefault(key, {})[views] = entry
        files = [self._entries[next(iter(names.values()))].image for names in missing.values()]
        loaded = transforms.load_all(files, self._captioner.side)
        unread: dict[str, DataError] = {}  # by the image's hash
        self._captioner.eval()
        keys = list(missing)
        for first in range(0, len(keys), BATCH):
            progress(first, len(keys))
            readable: dict[str, np.ndarray] = {}
            for key, pixels in zip(keys[first : first + BATCH], islice(loaded, BATCH), strict=True):
                if isinstance(pixels, DataError):
                    unread[_image(key)] = pixels
                else:
                    readable[key] = pixels[:, ::-1] if key.endswith(MIRRORED) else pixels
            for views in get_args(Views):
                if asked := [key for key in readable if views in missing[key]]:
                    arrays = self._compute(np.stack([readable[key] for key in asked]), views)
                    self._cache.add([missing[key][views] for key in asked], arrays)
        if missing:
            progress(len(missing), len(missing))
        if unread:
            images = {_image(entry) for entry in entries}
            log.warning("%d of %d images are left out. %s", len(unread), len(images), next(iter(unread.values())))

    def _compute(self, pixels: np.ndarray, views: Views) -> np.ndarray:
        """What is cached of images (N, S, S, 3)."""
        captioner = self._captioner
        if not captioner.encoder.frozen:
            return pixels
        with torch.inference_mode():
            grids = torch.cat(out_of_memory.micro_batched(lambda part: captioner.encode(part, views), pixels))
        return grids.half().cpu().contiguous().numpy()


def _split(entry: str) -> tuple[Views, str]:
    """The views and the key of an entry of the cache."""
    for suffix, views in SINGLE_VIEWS.items():
        if suffix in entry:
            return views, entry.replace(suffix, "")
    return "averaged", entry


def _image(entry: str) -> str:
    """The hash of the image of an entry of the cache."""
    return entry.partition("-")[0]
