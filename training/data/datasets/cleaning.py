"""Corrects data sets: captions without a word, duplicate images, and images in two splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from training.data import manifest
from training.data.datasets.files import warn
from training.data.datasets.splits import TEST
from training.data.manifest import Row
from training.vocabulary import tokenize

SHORTEST = 2  # characters of a caption

_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ud800-\udfff]")
"""Control characters, zero-width characters and lone surrogates."""

_RANKS = {manifest.TRAIN: 0, manifest.DEV: 1, manifest.HELD_OUT: 2, TEST: 3}


def tidy(text: str) -> str:
    """The text on one line, without control characters and repeated spaces."""
    return " ".join(_NO_TEXT.sub(" ", text).split())


def clean_captions(rows: Sequence[Row]) -> list[Row]:
    """The rows with tidied captions; captions without a word or of one character, and rows without any other, are left
    out.

    Equal captions of an image are all kept, as in published work. A split without any caption is meant to be captioned
    and is kept as it is.
    """
    captioned = {row.split for row in rows if row.references}
    kept, short, bare, count = [], [], [], 0
    for row in rows:
        if row.split not in captioned:
            kept.append(row)
            continue
        texts = [tidy(text) for text in row.references]
        usable = tuple(text for text in texts if _is_usable(text))
        count += len(texts)
        if usable:
            short += [f"{text!r} of {row.image.name}" for text in texts if not _is_usable(text)]
            kept.append(replace(row, references=usable))
        else:
            bare.append(f"{row.image.name} has no captions")
    warn("Left out", short, count, "captions, without a word or of one character")
    warn("Left out", bare, len(rows), "images")
    return kept


def _is_usable(text: str) -> bool:
    return len(text) >= SHORTEST and bool(tokenize(text))


def merge_copies(rows: Sequence[Row]) -> list[Row]:
    """The rows with every image, identified by its hash, in one split and one row; logs warnings about duplicates.

    An image in several splits stays in the first of test, held_out, dev and train that has it, so that no test image
    is trained on. Duplicates within a split become one row with all their captions. Duplicates without captions are all
    kept, because a submission needs a caption for each image id.
    """
    copies: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        copies[row.sha256].append(row)
    kept, leaked, merged = [], [], []
    for row in rows:
        group = copies[row.sha256]
        stays = max(group, key=lambda each: _RANKS.get(each.split, len(_RANKS)))  # the first copy in that split
        if row.split != stays.split:
            leaked.append(f"{row.image.name} ({row.split}) is {stays.image.name} ({stays.split})")
        elif row is not stays and row.references:
            merged.append(f"{row.image.name} is {stays.image.name}")
        else:
            same = [each for each in group if each.split == row.split]
            kept.append(_united(same) if row is stays and len(same) > 1 else row)
    warn("Left out", leaked, len(rows), "images, which another split contains too")
    warn("Merged", merged, len(rows), "images into another of their split with the same content")
    return kept


def _united(rows: Sequence[Row]) -> Row:
    """The first row with the captions of all and the highest weight."""
    first = rows[0]
    references = list(first.references)
    for row in rows[1:]:
        references += [text for text in row.references if text not in references]
    return replace(first, references=tuple(references), weight=max(row.weight for row in rows))
