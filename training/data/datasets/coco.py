"""Reads COCO Captions and nocaps, which share a format: `images` with ids, `annotations` with one caption each.

Writes captions in COCO's results format, which COCO's own tools read and nocaps takes for submissions.

Sources: Chen et al., 2015 (COCO Captions); Agrawal et al., 2019 (nocaps).
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from training.data import manifest
from training.data.datasets.files import find, layout, need, read_json, text_of
from training.data.datasets.splits import TEST
from training.data.manifest import Row
from training.errors import DataError

logger = logging.getLogger(__name__)


class _Part(NamedTuple):
    """A split, the possible names of its annotation file, and the possible names of its folder of images."""

    split: str
    listings: Sequence[str]
    photos: Sequence[str]


def read_coco(year: int, data_dir: Path) -> list[Row]:
    """COCO Captions. 2014: 82,783 images of split train, 40,504 of dev; 2017: 118,287 and 5,000. They are not checked.

    Files: `captions_{train,val}2014.json` (or in `annotations/`), images in `{train,val}2014/` (or in `images/`). A
    split without annotations or images is left out; COCO publishes no captions of its test images.
    """
    parts = []
    for split, name in ((manifest.TRAIN, f"train{year}"), (manifest.DEV, f"val{year}")):
        listing = f"captions_{name}.json"
        parts.append(_Part(split, (f"annotations/{listing}", listing), (name, f"images/{name}")))
    return _read(data_dir, f"COCO {year}", parts)


def read_nocaps(data_dir: Path) -> list[Row]:
    """nocaps: 4,500 images of split dev with ten captions, 10,600 of test without. Images are not checked or hashed.

    Files: `nocaps_val_4500_captions.json` and `nocaps_test_image_info.json` (or in `annotations/`), images in `val/` or
    `validation/` and `test/`, or all in `images/`. A row's `subset` is the image's domain, if published: in-domain,
    near-domain or out-domain, relative to COCO's object classes.
    """
    val = ("nocaps_val_4500_captions.json", "annotations/nocaps_val_4500_captions.json")
    test = ("nocaps_test_image_info.json", "annotations/nocaps_test_image_info.json")
    parts = [
        _Part(manifest.DEV, val, ("val", "validation", "images/val", "images/validation", "images")),
        _Part(TEST, test, ("test", "images/test", "images")),
    ]
    return _read(data_dir, "nocaps", parts)


def _read(data_dir: Path, whose: str, parts: Sequence[_Part]) -> list[Row]:
    need(data_dir, [name for part in parts for name in part.listings], whose)
    listed = [part for part in parts if find(data_dir, part.listings)]
    need(data_dir, [name for part in listed for name in part.photos], whose)
    rows = []
    for part in listed:
        photos = find(data_dir, part.photos)
        if photos is None:
            needs = " nor ".join(part.photos)
            logger.warning("Left out the split %s of %s: neither %s is in %s.", part.split, whose, needs, data_dir)
        else:
            rows += _rows(need(data_dir, part.listings, whose), photos, part.split)
    return rows


def _rows(listing: Path, photos: Path, split: str) -> list[Row]:
    published = read_json(listing)
    captions: dict[int, list[str]] = defaultdict(list)
    with layout(listing, "an annotation file as COCO's"):
        for annotation in published.get("annotations", []):
            captions[annotation["image_id"]].append(text_of(annotation["caption"]))
        return [
            Row(
                photos / text_of(image["file_name"]),
                "",
                tuple(captions[image["id"]]),
                split,
                image_id=str(image["id"]),
                subset=text_of(image.get("domain", "")),
            )
            for image in published["images"]
        ]


def export(rows: Sequence[Row], hypotheses: Iterable[str], path: Path) -> Path:
    """Write a caption for each row as `[{"image_id": 42, "caption": "a dog"}, …]`, in the order of the rows.

    A numeric id is written as a number, as in COCO; a row without an id gets its file's stem. Raises DataError when two
    rows have the same id.
    """
    results = [{"image_id": image_id, "caption": text} for image_id, text in zip(_ids(rows), hypotheses, strict=True)]
    path.write_text(json.dumps(results, ensure_ascii=False), encoding="utf-8")
    return path


def _ids(rows: Sequence[Row]) -> list[int | str]:
    seen: dict[int | str, Path] = {}
    for row in rows:
        image_id = _number(row.image_id or row.image.stem)
        if image_id in seen:
            raise DataError(f"{seen[image_id]} and {row.image} have the same id {image_id!r}; COCO needs one for each.")
        seen[image_id] = row.image
    return list(seen)


def _number(image_id: str) -> int | str:
    """A whole number as one, but only where it is written as numbers are: 00123 is a name."""
    is_number = image_id.isascii() and image_id.isdecimal() and (image_id == "0" or image_id[0] != "0")
    return int(image_id) if is_number else image_id
