"""What a captioner is fed in training: of each image that which stays the same, computed once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from training.captioner.captioner import BATCH, Captioner
from training.data import transforms
from training.data.manifest import TRAIN, Row
from training.errors import DataError
from training.features.cache import Cache, DamagedError
from training.networks.encoder import Looks, features_hash
from training.runtime import out_of_memory

log = logging.getLogger(__name__)

MIRRORED = "-mirrored"
"""Follows the hash of an image in the name of its view from behind a mirror."""
KINDS: dict[str, Looks] = {"-near": "near", "-far": "far"}
"""What follows the hash in the names that grids of a single look have in the cache."""
NEAR, FAR = KINDS


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

    Where a grid is the mean of several looks, at several `scales` and from both sides, the images of `brief` rows are
    looked at twice only, and both looks are kept: what they are learned from is the mean of these two, where they cost
    less, or where it is `varied` each time something else between them, so that less can be learned by heart.
    """

    def __init__(
        self,
        captioner: Captioner,
        rows: Sequence[Row],
        cache_dir: Path,
        progress: Callable[[int, int], None] | None = None,
        mirrored: bool = False,
        brief: Sequence[Row] = (),
        varied: bool = False,
    ) -> None:
        self._captioner = captioner
        self._cache = cache_of(captioner, cache_dir)
        encoder = captioner.encoder
        self._turns = encoder.keeps == "grid" and encoder.config.mirror_mean
        pays = encoder.keeps == "grid" and (encoder.looks > 1 if varied else self._two_looks_cost_less())
        self._brief, self._varied = {row.sha256 for row in brief} if pays else set(), varied
        views = [(row.sha256, row) for row in rows]
        if mirrored and not self._turns:
            views += [(row.sha256 + MIRRORED, row) for row in rows if row.split == TRAIN]
        self._views = {name: row for view, row in views for name in self._names(view)}  # as they stand in the cache
        # an image that is learned from may be one to judge by, too, which is seen as captions are said
        learned = {(row.sha256, row.split) for row in brief}
        self._views |= {row.sha256: row for row in rows if (row.sha256, row.split) not in learned}
        self._fill(list(self._views), progress or (lambda done, total: None))
        lost = {row.sha256 for name, row in self._views.items() if name not in self._cache}
        self.rows = [row for row in rows if row.sha256 not in lost]

    def stored(self, views: Sequence[str]) -> torch.Tensor:
        """Pixels (B, S, S, 3) in bytes, maps (B, C', H', W') or grids (B, P, C) in half floats, on the captioner's
        device. A view is the hash of an image, followed by MIRRORED for the other one."""
        if not self._brief or all(view in self._views for view in views):
            return self._seen(views)
        return self._between([(view,) if view in self._views else self._names(view) for view in views], 0.5)

    def shown(self, views: Sequence[str]) -> torch.Tensor:
        """The same for a step of learning."""
        if not self._brief:
            return self._seen(views)
        share = torch.rand(len(views), 1, 1, device=self._captioner.device) if self._varied else 0.5
        return self._between([self._names(view) for view in views], share)

    def _between(self, names: Sequence[Sequence[str]], share: torch.Tensor | float) -> torch.Tensor:
        """Grids (B, P, C) a `share` of the way from the first of an image's names to its last."""
        near, far = (self._seen([each[place] for each in names]) for place in (0, -1))
        return torch.lerp(near.float(), far.float(), share)

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

    def _two_looks_cost_less(self) -> bool:
        """Whether two looks at an image cost less than those of the mean."""
        encoder, side = self._captioner.encoder, self._captioner.transform.side
        return encoder.pixels("near", side) + encoder.pixels("far", side) < encoder.pixels("mean", side)

    def _names(self, view: str) -> tuple[str, ...]:
        """The names in the cache of what is learned from as this view."""
        image, mirrored, _ = view.partition(MIRRORED)
        return (image + NEAR + mirrored, image + FAR + mirrored) if image in self._brief else (view,)

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
        missing: dict[str, dict[Looks, str]] = {}  # by view, the names of what is not kept of it
        for name in views:
            if name not in self._cache:
                looks, view = _split(name)
                missing.setdefault(view, {})[looks] = name
        files = [self._views[next(iter(names.values()))].image for names in missing.values()]
        loaded = transforms.load_all(files, self._captioner.side)
        unread: dict[str, DataError] = {}  # by the image's hash, as all its views are
        self._captioner.eval()
        unseen = list(missing)
        for first in range(0, len(unseen), BATCH):
            progress(first, len(unseen))
            readable: dict[str, np.ndarray] = {}
            for view, pixels in zip(unseen[first : first + BATCH], islice(loaded, BATCH), strict=True):
                if isinstance(pixels, DataError):
                    unread[_image(view)] = pixels
                else:
                    readable[view] = pixels[:, ::-1] if view.endswith(MIRRORED) else pixels
            for looks in get_args(Looks):
                if asked := [view for view in readable if looks in missing[view]]:
                    prepared = self._prepare(np.stack([readable[view] for view in asked]), looks)
                    self._cache.add([missing[view][looks] for view in asked], prepared)
        if missing:
            progress(len(missing), len(missing))
        if unread:
            images = {_image(view) for view in views}
            log.warning("%d of %d images are left out. %s", len(unread), len(images), next(iter(unread.values())))

    def _prepare(self, pixels: np.ndarray, looks: Looks) -> np.ndarray:
        """What is kept of images (N, S, S, 3); of grids those of these looks."""
        captioner, keeps = self._captioner, self._captioner.encoder.keeps
        if keeps == "pixels":
            return pixels

        def encode(part: np.ndarray) -> torch.Tensor:
            return captioner.trunk(part) if keeps == "maps" else captioner.encode(part, looks)

        with torch.inference_mode():
            kept = torch.cat(out_of_memory.micro_batched(encode, pixels))
        return kept.half().cpu().contiguous().numpy()


def _split(name: str) -> tuple[Looks, str]:
    """The looks that a name in the cache is of, and the view without them."""
    for kind, looks in KINDS.items():
        if kind in name:
            return looks, name.replace(kind, "")
    return "mean", name


def _image(name: str) -> str:
    """The hash of the image that something in the cache is of."""
    return name.partition("-")[0]
