"""Reads Karpathy's splits of Flickr8k, Flickr30k and COCO, which most published results use.

Source: Karpathy and Fei-Fei, 2015; `caption_datasets.zip`, which holds a `dataset_<name>.json` for each data set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.data.datasets.files import find, layout, need, need_one, need_photos, read_json, text_of
from training.data.datasets.flickr import PHOTOS_8K, PHOTOS_30K
from training.data.datasets.splits import split_named
from training.data.manifest import Row
from training.errors import DataError

FILES = ("dataset_flickr8k.json", "dataset_flickr30k.json", "dataset_coco.json")


def read_karpathy(path: Path) -> list[Row]:
    """One of Karpathy's files, or the only one in a folder. Images are not checked or hashed.

    The images are beside it as in the data set itself: COCO's in `train2014/` and `val2014/`, or these in `images/`.
    train and restval become the split train, val becomes dev. The id of a Flickr image is its file's stem.
    """
    listing = need_one(path, FILES, "Karpathy's split")
    published = read_json(listing)
    folder = listing.parent
    with layout(listing, "a split of Karpathy's"):
        images = published["images"]
        photos = _photos(text_of(published["dataset"]), folder, {image.get("filepath", "") for image in images})
        return [_row(image, photos[image.get("filepath", "")]) for image in images]


def _photos(dataset: str, folder: Path, parts: set[str]) -> dict[str, Path]:
    """The folder of images by `filepath`; Flickr's images are all in one folder."""
    if dataset == "coco":
        need(
            folder, [place for part in sorted(parts) for place in (part, f"images/{part}")], "Karpathy's split of COCO"
        )
        return {part: find(folder, (part, f"images/{part}")) or folder / part for part in parts}
    if dataset not in {"flickr8k", "flickr30k"}:
        raise DataError(f"There is no Karpathy split of {dataset!r}; there are of flickr8k, flickr30k and coco.")
    names = PHOTOS_8K if dataset == "flickr8k" else PHOTOS_30K
    return dict.fromkeys(parts, need_photos(folder, names, f"Karpathy's split of {dataset}"))


def _row(image: dict[str, Any], photos: Path) -> Row:
    name = text_of(image["filename"])
    captions = tuple(
        text_of(sentence["raw"]) if "raw" in sentence else " ".join(sentence["tokens"])
        for sentence in image["sentences"]
    )
    image_id = str(image.get("cocoid", Path(name).stem))
    return Row(photos / name, "", captions, split_named(text_of(image["split"])), image_id=image_id)
