"""Data sets as people download them -> rows of a manifest, cleaned, with every image looked at once.

Each reader (`flickr`, `coco`, `karpathy`, `tables`, `label_studio`) knows the files of its publisher and nothing else;
`splits` decides where nobody did, `images` looks at the photos, `cleaning` puts right what is wrong in any of them and
`coco_format` writes captions as COCO's tools read them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from training.data import manifest
from training.data.datasets.cleaning import clean_captions, merge_copies
from training.data.datasets.coco import read_coco2014, read_coco2017, read_nocaps
from training.data.datasets.flickr import read_flickr8k, read_flickr30k
from training.data.datasets.images import look
from training.data.datasets.karpathy import read_karpathy
from training.data.datasets.label_studio import read_label_studio
from training.data.datasets.splits import TEST, UNDECIDED, decided
from training.data.datasets.tables import read_csv
from training.data.manifest import Row
from training.errors import DataError

__all__ = [
    "NAMES",
    "TEST",
    "read",
    "read_coco2014",
    "read_coco2017",
    "read_csv",
    "read_flickr8k",
    "read_flickr30k",
    "read_jsonl",
    "read_karpathy",
    "read_label_studio",
    "read_nocaps",
]


def read(name: str, data_dir: Path, split: str | None = None, limit: int | None = None) -> list[Row]:
    """Rows of the data set `name`, one of NAMES, in `data_dir`, only those of `split` where one is given.

    `limit` keeps the first so many images of each split. Images that are missing, cannot be decoded or have no caption
    are left out, and so are copies in another split; what was done is one warning a kind. Copies are found among the
    images that are asked for. Where the publisher made no splits the images' content decides, so that all are read.
    Raises DataError when the files are not there or not one usable row is left.
    """
    if name not in _READERS:
        raise DataError(f"There is no data set called {name!r}; there are {', '.join(NAMES)}.")
    if limit is not None and limit < 1:
        raise DataError(f"The limit of images must be at least 1, not {limit}.")
    published = _READERS[name](data_dir)
    if not published:
        raise DataError(f"The {name} in {data_dir} lists no images.")
    asked = _of(published, split, data_dir)
    captioned = clean_captions(asked)
    if not captioned:
        raise DataError(f"None of the {len(asked)} images of {data_dir} has a caption.")
    seen = decided(look(_first(captioned, limit), data_dir))
    return merge_copies(_first(_of(seen, split, data_dir), limit))


def read_jsonl(path: Path) -> list[Row]:
    """A manifest file, or the `manifest.jsonl` of a folder, unchecked and without the hashes it lacks."""
    return manifest.load(path / "manifest.jsonl" if path.is_dir() else path, hashes=False)


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    "flickr8k": read_flickr8k,
    "flickr30k": read_flickr30k,
    "coco2014": read_coco2014,
    "coco2017": read_coco2017,
    "karpathy": read_karpathy,
    "nocaps": read_nocaps,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "label-studio": read_label_studio,
}

NAMES = tuple(_READERS)
"""The data sets there are."""


def _of(rows: Sequence[Row], split: str | None, data_dir: Path) -> list[Row]:
    """The rows of the split, or of all splits; those not decided yet are among them."""
    kept = [row for row in rows if split is None or row.split in {split, UNDECIDED}]
    if not kept:
        there = ", ".join(sorted({row.split for row in rows}))
        raise DataError(f"{data_dir} has no images of the split {split!r}; it has {there}.")
    return kept


def _first(rows: Iterable[Row], limit: int | None) -> list[Row]:
    """The first so many rows of each split, and all that are not decided yet."""
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for row in rows:
        taken[row.split] += 1
        if limit is None or taken[row.split] <= limit or row.split == UNDECIDED:
            kept.append(row)
    return kept
