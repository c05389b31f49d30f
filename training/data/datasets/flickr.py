"""Reads Flickr8k and Flickr30k in their authors' and in Kaggle's files; `<image>.jpg` has five captions.

Sources: Hodosh, Young and Hockenmaier, 2013 (Flickr8k); Young, Lai, Hodosh and Hockenmaier, 2014 (Flickr30k).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data import manifest
from training.data.datasets.files import find, need, need_photos, read_lines
from training.data.datasets.splits import TEST, UNDECIDED
from training.data.datasets.tables import captions_of
from training.data.manifest import Row
from training.errors import DataError

PHOTOS_8K = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset")  # the authors' own archive spells it Flicker
PHOTOS_30K = ("flickr30k-images", "flickr30k_images", "images", "Images")

_LISTS_8K = {split: (f"Flickr_8k.{split}Images.txt",) for split in (manifest.TRAIN, manifest.DEV, TEST)}
_LISTS_30K = {
    manifest.TRAIN: ("flickr30k_train.txt", "train.txt"),
    manifest.DEV: ("flickr30k_val.txt", "flickr30k_dev.txt", "val.txt", "dev.txt"),
    TEST: ("flickr30k_test.txt", "test.txt"),
}
_NUMBERED = re.compile(r"\s*(\d+)\s*\|?(.*)", re.DOTALL)


def read_flickr8k(data_dir: Path) -> list[Row]:
    """Flickr8k. Images are not checked or hashed.

    The captions are in `Flickr8k.token.txt` (`<image>#<number><tab><caption>`, or in `Flickr8k_text/`) or in Kaggle's
    `captions.txt` (CSV, `image,caption`); the splits in `Flickr_8k.{train,dev,test}Images.txt` beside them. A split
    without its list is left out; without any list the images' hashes decide.
    """
    names = ("Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt", "captions.txt", "Flickr8k_text/captions.txt")
    texts = need(data_dir, names, "Flickr8k")
    captions = captions_of(texts) if texts.name == "captions.txt" else _tokens(texts)
    lists = {split: find(texts.parent, names) or find(data_dir, names) for split, names in _LISTS_8K.items()}
    return _rows(captions, need_photos(data_dir, PHOTOS_8K, "Flickr8k"), lists)


def read_flickr30k(data_dir: Path) -> list[Row]:
    """Flickr30k. Images are not checked or hashed.

    The captions are in `results_20130124.token` (`<image>#<number><tab><caption>`), in Kaggle's `results.csv`
    (`image_name| comment_number| comment`) or in Kaggle's `captions.txt` (CSV, `image,caption`); the splits in lists of
    image names with or without `.jpg`, such as the `train.txt`, `val.txt` and `test.txt` of Flickr30k Entities. A split
    without its list is left out; without any list the images' hashes decide.
    """
    folders = ("", "flickr30k/", "flickr30k_images/", "flickr30k_images/flickr30k_images/")
    files = ("results_20130124.token", "results.csv", "captions.txt")
    texts = need(data_dir, [f"{folder}{file}" for file in files for folder in folders], "Flickr30k")
    read = {"results_20130124.token": _tokens, "results.csv": _results, "captions.txt": captions_of}[texts.name]
    photos = need_photos(texts.parent if find(texts.parent, PHOTOS_30K) else data_dir, PHOTOS_30K, "Flickr30k")
    lists = {split: find(texts.parent, names) or find(data_dir, names) for split, names in _LISTS_30K.items()}
    return _rows(read(texts), photos, lists)


def _tokens(path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(read_lines(path), start=1):
        label, tab, caption = line.partition("\t")
        if not tab or "#" not in label:
            raise DataError(f"Line {number} of {path} is not `image#number<tab>caption`: {line[:60]!r}.")
        captions[label.rpartition("#")[0]].append(caption)
    return captions


def _results(path: Path) -> dict[str, list[str]]:
    """Kaggle's `results.csv`, whose cells are separated by bars; every copy lacks the second bar of line 20,001."""
    captions: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(read_lines(path), start=1):
        image, bar, rest = line.partition("|")
        numbered = _NUMBERED.fullmatch(rest)
        if bar and numbered:
            captions[image.strip()].append(numbered[2])
        elif number > 1:  # the first line is the header
            raise DataError(f"Line {number} of {path} is not `image| number| caption`: {line[:60]!r}.")
    return captions


def _rows(captions: Mapping[str, Sequence[str]], photos: Path, lists: Mapping[str, Path | None]) -> list[Row]:
    """A row for each listed image, or for each image if there are no lists."""
    listings = {split: listing for split, listing in lists.items() if listing}
    if not listings:
        splits = dict.fromkeys(captions, UNDECIDED)
    else:
        images = {Path(image).stem: image for image in captions}
        splits = {}
        for split, listing in listings.items():
            stems = [line.strip().removesuffix(".jpg") for line in read_lines(listing)]
            splits |= {images[stem]: split for stem in stems if stem in images}
        if not splits:
            shown = ", ".join(map(str, listings.values()))
            raise DataError(f"No image that is listed has captions; the lists are {shown}.")
    return [
        Row(photos / image, "", tuple(captions[image]), split, image_id=Path(image).stem)
        for image, split in splits.items()
    ]
