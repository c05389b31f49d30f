"""Reads data sets in their publishers' files into cleaned rows of a manifest, after checking every image.

Each reader (`flickr`, `coco`, `karpathy`, `tables`, `label_studio`) knows the files of one publisher. `splits` makes
the splits that a publisher did not make, `images` checks the image files, and `cleaning` corrects captions and removes
duplicates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from training.data import manifest
from training.data.datasets.cleaning import clean_captions, merge_copies
from training.data.datasets.coco import read_coco, read_nocaps
from training.data.datasets.flickr import read_flickr8k, read_flickr30k
from training.data.datasets.images import checked
from training.data.datasets.karpathy import read_karpathy
from training.data.datasets.label_studio import read_label_studio
from training.data.datasets.splits import TEST, UNDECIDED, with_splits
from training.data.datasets.tables import read_csv
from training.data.manifest import Row
from training.errors import DataError

__all__ = ["NAMES", "TEST", "read"]


def read(name: str, data_dir: Path, split: str | None = None, limit: int | None = None) -> list[Row]:
    """The rows of the data set `name`, one of NAMES, in `data_dir`; only those of `split` if it is given.

    `limit` is the number of images kept of each split. Images that are missing, cannot be decoded or have no caption
    are left out, and so are images that another split contains too; one warning is logged for each kind of problem.
    Duplicates are searched for among the requested images only. If the publisher made no splits, the images' hashes
    decide, and all images are read. Raises DataError when files are missing or no usable row is left.
    """
    if name not in _READERS:
        raise DataError(f"There is no data set called {name!r}; there are {', '.join(NAMES)}.")
    if limit is not None and limit < 1:
        raise DataError(f"The limit of images must be at least 1, not {limit}.")
    published = _READERS[name](data_dir)
    if not published:
        raise DataError(f"The {name} in {data_dir} lists no images.")
    wanted = _of(published, split, data_dir)
    captioned = clean_captions(wanted)
    if not captioned:
        raise DataError(f"None of the {len(wanted)} images of {data_dir} has a caption.")
    rows = with_splits(checked(_first(captioned, limit), data_dir))
    return merge_copies(_first(_of(rows, split, data_dir), limit))


def read_jsonl(path: Path) -> list[Row]:
    """A manifest file, or the `manifest.jsonl` of a folder. Images are not checked, missing hashes stay empty."""
    return manifest.load(path / "manifest.jsonl" if path.is_dir() else path, hashes=False)


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    "flickr8k": read_flickr8k,
    "flickr30k": read_flickr30k,
    "coco2014": partial(read_coco, 2014),
    "coco2017": partial(read_coco, 2017),
    "karpathy": read_karpathy,
    "nocaps": read_nocaps,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "label-studio": read_label_studio,
}

NAMES = tuple(_READERS)
"""The names of all data sets that can be read."""


def _of(rows: Sequence[Row], split: str | None, data_dir: Path) -> list[Row]:
    """The rows of the split and those without a split yet, or all rows. Raises DataError when there are none."""
    kept = [row for row in rows if split is None or row.split in {split, UNDECIDED}]
    if not kept:
        there = ", ".join(sorted({row.split for row in rows}))
        raise DataError(f"{data_dir} has no images of the split {split!r}; it has {there}.")
    return kept


def _first(rows: Iterable[Row], limit: int | None) -> list[Row]:
    """The first `limit` rows of each split, and all rows without a split yet."""
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for row in rows:
        taken[row.split] += 1
        if limit is None or taken[row.split] <= limit or row.split == UNDECIDED:
            kept.append(row)
    return kept
