"""What a captioner is fed in training: of each image that which stays the same, computed once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch

from training import memory, transforms
from training.cache import Cache, DamagedError
from training.encoder import features_hash
from training.errors import DataError
from training.manifest import TRAIN, Row
from training.model import BATCH, Captioner

log = logging.getLogger(__name__)

MIRRORED = "-mirrored"
"""Follows the hash of an image in the name of its view from behind a mirror."""
PLAIN = "-plain"
"""Follows the hash in the name that a grid of the image's own size alone has in the cache."""


def cache_of(captioner: Captioner, cache_dir: Path) -> Cache:
    """What is kept in `cache_dir` of images as this captioner sees them. Raises DataError as Cache does."""
    encoder, side = captioner.encoder, captioner.transform.side
    if encoder.keeps == "pixels":
        return Cache(cache_dir / f"pixels-{captioner.side}px", (captioner.side, captioner.side, 3), "uint8")
    shape = (encoder.cells(side), encoder.channels) if encoder.keeps == "grid" else encoder.maps_shape(side)
    name = f"{encoder.keeps}-{features_hash(encoder, captioner.transform)[:16]}"
    return Cache(cache_dir / name, shape, "float16")


class Inputs:
    """What is fed to the captioner for each of some rows: grids where its encoder is frozen, the maps of its frozen
    layers where its last ones are trained, else pixels; all from the cache.

    `rows` are those that could be read; the others are logged and left out. With `mirrored` there is a second view of
    the rows of split "train": left and right exchanged. It is kept too, but for grids that are a `mirror_mean`: those
    are turned around.

    Of several `scales` a grid is the mean. Those of the images of `plain` rows are of one size alone, the image's own,
    which costs less; of `varied` rows both are kept, and what is `shown` of them lies somewhere on the line through
    both.
    """

    def __init__(
        self,
        captioner: Captioner,
        rows: Sequence[Row],
        cache_dir: Path,
        progress: Callable[[int, int], None] | None = None,
        mirrored: bool = False,
        plain: Sequence[Row] = (),
        varied: Sequence[Row] = (),
    ) -> None:
        self._captioner = captioner
        self._cache = cache_of(captioner, cache_dir)
        encoder = captioner.encoder
        self._turns = encoder.keeps == "grid" and encoder.config.mirror_mean
        scaled = encoder.keeps == "grid" and encoder.scaled
        self._plain, self._varied = ({row.sha256 for row in some} if scaled else set() for some in (plain, varied))
        views = [(row.sha256, row) for row in rows]
        if mirrored and not self._turns:
            views += [(row.sha256 + MIRRORED, row) for row in rows if row.split == TRAIN]
        self._views = {name: row for view, row in views for name in self._names(view)}  # as they stand in the cache
        self._fill(list(self._views), progress or (lambda done, total: None))
        lost = {row.sha256 for name, row in self._views.items() if name not in self._cache}
        self.rows = [row for row in rows if row.sha256 not in lost]

    def stored(self, views: Sequence[str]) -> torch.Tensor:
        """Pixels (B, S, S, 3) in bytes, maps (B, C', H', W') or grids (B, P, C) in half floats, on the captioner's
        device. A view is the hash of an image, followed by MIRRORED for the other one."""
        return self._seen([self._names(view)[0] for view in views])

    def shown(self, views: Sequence[str]) -> torch.Tensor:
        """The same for a step of learning: of `varied` rows each time something else, between what the image's own size
        alone shows and as far on the other side of the mean. So little can be learned by heart."""
        if not self._varied:
            return self.stored(views)
        mean, plain = (self._seen(list(names)).float() for names in zip(*map(self._names, views), strict=True))
        share = 2 * torch.rand(len(views), 1, 1, device=mean.device) - 1
        return torch.lerp(mean, plain, share)  # (B, P, C)

    def _seen(self, names: Sequence[str]) -> torch.Tensor:
        """What is kept under these names, turned around where they say so."""
        if not self._turns:
            return self._kept(names)
        grids = self._kept([name.removesuffix(MIRRORED) for name in names])
        side = math.isqrt(grids.shape[1])
        turned = grids.unflatten(1, (side, side)).flip(2).flatten(1, 2)  # (B, P, C)
        mirrored = torch.tensor([name.endswith(MIRRORED) for name in names], device=grids.device)
        return torch.where(mirrored[:, None, None], turned, grids)

    def grid(self, views: Sequence[str]) -> torch.Tensor:
        """Grids (B, P, C) of these views, as far as the encoder computes them anew each time."""
        return self._captioner.see(self.stored(views))

    def _names(self, view: str) -> tuple[str, ...]:
        """The names in the cache of what is shown as this view; of a varied one the mean's and the plain one's."""
        image, mirrored, _ = view.partition(MIRRORED)
        plain = image + PLAIN + mirrored
        if image in self._plain:
            return (plain,)
        return (view, plain) if image in self._varied else (view,)

    def _kept(self, views: Sequence[str]) -> torch.Tensor:
        try:
            arrays = self._cache.get(views)
        except DamagedError as error:
            log.warning("%d of the cached arrays are damaged and are computed again.", len(error.hashes))
            self._cache.forget(error.hashes)
            training = self._captioner.training
            self._fill(error.hashes, lambda done, total: None)
            self._captioner.train(training)
            if lost := [view for view in error.hashes if view not in self._cache]:
                image = self._views[lost[0]].image
                raise DataError(f"The cached entry of {image} is damaged, and the image cannot be read.") from error
            arrays = self._cache.get(views)
        return torch.from_numpy(arrays).to(self._captioner.device, non_blocking=True)

    def _fill(self, views: Sequence[str], progress: Callable[[int, int], None]) -> None:
        missing: dict[str, list[str]] = {}  # by view, the names of what is not kept of it; plain ones last
        for name in sorted(views, key=_is_plain):
            if name not in self._cache:
                missing.setdefault(name.replace(PLAIN, ""), []).append(name)
        loaded = transforms.load_all([self._views[names[0]].image for names in missing.values()], self._captioner.side)
        unread: dict[str, DataError] = {}  # by the image's hash, as all its views are
        self._captioner.eval()

        def kinds(view: str) -> tuple[bool, ...]:
            return tuple(_is_plain(name) for name in missing[view])

        unseen = list(missing)
        for first in range(0, len(unseen), BATCH):
            progress(first, len(unseen))
            readable: dict[str, np.ndarray] = {}
            for view, pixels in zip(unseen[first : first + BATCH], islice(loaded, BATCH), strict=True):
                if isinstance(pixels, DataError):
                    unread[_image(view)] = pixels
                else:
                    readable[view] = pixels[:, ::-1] if view.endswith(MIRRORED) else pixels
            for plain, several in groupby(sorted(readable, key=kinds), kinds):
                seen = list(several)
                prepared = self._prepare([readable[view] for view in seen], plain)  # (N, kinds, ...)
                for number in range(len(plain)):
                    self._cache.add([missing[view][number] for view in seen], prepared[:, number])
        if missing:
            progress(len(missing), len(missing))
        if unread:
            images = {_image(view) for view in views}
            log.warning("%d of %d images are left out. %s", len(unread), len(images), next(iter(unread.values())))

    def _prepare(self, pixels: Sequence[np.ndarray], plain: tuple[bool, ...]) -> np.ndarray:
        """What is kept of each image (N, kinds, ...); of grids `plain` says of every kind whether it is of one size."""
        stacked = np.stack(pixels)
        captioner, keeps = self._captioner, self._captioner.encoder.keeps
        if keeps == "pixels":
            return stacked[:, None]

        def encode(part: np.ndarray) -> torch.Tensor:
            if keeps == "maps":
                return captioner.trunk(part)[:, None]
            return captioner.encode_both(part) if len(plain) == 2 else captioner.encode(part, *plain)[:, None]

        with torch.inference_mode():
            kept = torch.cat(memory.halved(encode, stacked))
        return kept.half().cpu().contiguous().numpy()


def _is_plain(name: str) -> bool:
    return PLAIN in name


def _image(name: str) -> str:
    """The hash of the image that something in the cache is of."""
    return name.partition("-")[0]
