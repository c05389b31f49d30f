"""Data sets as they are published -> rows of a manifest, with every image looked at once."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from training import manifest
from training.errors import DataError
from training.manifest import Row

TEST = "test"

logger = logging.getLogger(__name__)


def read(name: str, data_dir: Path, split: str | None = None, limit: int | None = None) -> list[Row]:
    """Rows of the data set `name` ("flickr8k" or "jsonl") in `data_dir`, only those of `split` where one is given.

    `limit` keeps the first so many images of each split. Images that are missing or cannot be decoded are left out and
    reported in one warning. Raises DataError when the files are not there or not one usable row is left.
    """
    if name not in _READERS:
        raise DataError(f"There is no data set called {name!r}; there are {', '.join(_READERS)}.")
    if limit is not None and limit < 1:
        raise DataError(f"The limit of images must be at least 1, not {limit}.")
    rows = _READERS[name](data_dir)
    there = sorted({row.split for row in rows})
    if split is not None:
        rows = [row for row in rows if row.split == split]
    if not rows:
        raise DataError(f"{data_dir} has no images of the split {split!r}; it has {', '.join(there) or 'none at all'}.")
    return _checked(_first(rows, limit), data_dir)


def read_flickr8k(data_dir: Path) -> list[Row]:
    """Flickr8k's original files (Hodosh, Young and Hockenmaier, 2013), unchecked and without hashes.

    `Flickr8k.token.txt` has the captions, `Flickr_8k.{train,dev,test}Images.txt` the splits; lists that are not there
    are left out. They may lie in `Flickr8k_text/`, the images in `images/`, `Flicker8k_Dataset/`, `Flickr8k_Dataset/`.
    """
    texts = _first_there([data_dir / "Flickr8k.token.txt", data_dir / "Flickr8k_text" / "Flickr8k.token.txt"])
    images = _first_there([data_dir / folder for folder in ("images", "Flicker8k_Dataset", "Flickr8k_Dataset")])
    captions: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(_lines(texts), start=1):
        label, tab, caption = line.partition("\t")
        if not tab or "#" not in label:
            raise DataError(f"Line {number} of {texts} is not `image#number<tab>caption`: {line[:60]!r}.")
        captions[label.rpartition("#")[0]].append(caption.strip())
    rows = []
    for split in (manifest.TRAIN, manifest.DEV, TEST):
        listing = texts.with_name(f"Flickr_8k.{split}Images.txt")
        if listing.exists():
            names = [line.strip() for line in _lines(listing)]
            rows += [Row(images / name, "", tuple(captions[name]), split) for name in names if name in captions]
    if not rows:
        raise DataError(f"No list such as {texts.with_name('Flickr_8k.trainImages.txt')} names an image with captions.")
    return rows


def read_jsonl(path: Path) -> list[Row]:
    """A manifest file, or the `manifest.jsonl` of a folder, unchecked."""
    return manifest.load(path / "manifest.jsonl" if path.is_dir() else path)


_READERS: dict[str, Callable[[Path], list[Row]]] = {"flickr8k": read_flickr8k, "jsonl": read_jsonl}


def _checked(rows: list[Row], data_dir: Path) -> list[Row]:
    """The rows whose image can be decoded and that have a caption, with the hash of the image as it is now."""
    good, bad = [], []
    for row in tqdm(rows, desc="Reading images", unit="image", leave=False):
        try:
            sha256 = _look_at(row.image)
        except DataError as error:
            bad.append(str(error))
            continue
        if any(text.strip() for text in row.references):
            good.append(replace(row, sha256=sha256))
        else:
            bad.append(f"{row.image.name} has no captions")
    if not good:
        raise DataError(f"None of the {len(rows)} images of {data_dir} can be used; the first: {bad[0]}.")
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        logger.warning("Left out %d of %d images: %s%s.", len(bad), len(rows), "; ".join(bad[:3]), more)
    return good


def _look_at(path: Path) -> str:
    """SHA-256 of an image that decodes to its last row. Raises DataError, without a full stop, where it does not."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror})") from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (64, 64))  # JPEG then decodes at an eighth of the size, several times faster
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path.name} is not a whole image") from error
    return hashlib.sha256(content).hexdigest()


def _first(rows: Iterable[Row], limit: int | None) -> list[Row]:
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for row in rows:
        taken[row.split] += 1
        if limit is None or taken[row.split] <= limit:
            kept.append(row)
    return kept


def _first_there(candidates: list[Path]) -> Path:
    for path in candidates:
        if path.exists():
            return path
    raise DataError(f"Flickr8k needs {' or '.join(str(path) for path in candidates)}; none is there.")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
