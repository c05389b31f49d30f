"""What labelling is simulated on: a base that lacks a subject, images that may be labelled, and others that score."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from benchmarks.adaptation_scenarios import WATER, WINTER, Base, base_without, in_order, mentions
from benchmarks.duplicates import CHANGES
from training.data import manifest
from training.data.manifest import Row
from training.runtime.files import atomic_file

SUBJECTS = {"winter": WINTER, "water": WATER}
SUBJECT_SHARE, COPIES_SHARE = 0.2, 0.1
LEFT_OUT = 750
"""Training images without the subject that the base does not learn: those that `benchmarks.adaptation` leaves out too,
so that the base of winter is the same."""


@dataclass(frozen=True)
class Pool:
    """`rows` may be labelled: a fifth is of the subject, a tenth nearly the same as another. `scored` are of the same
    kinds but for the copies, and never labelled."""

    subject: re.Pattern[str]
    base: Base
    rows: Sequence[Row]
    scored: Sequence[Row]


def pool(rows: Sequence[Row], subject: str, folder: Path, size: int, scored: int, left_out: int = LEFT_OUT) -> Pool:
    """A pool of `size` images, and `scored` others where there are so many. Copies are made in `folder`."""
    about, ordered = SUBJECTS[subject], in_order(rows)
    unlike = [row for row in ordered if row.split == manifest.TRAIN and not mentions(row.references, about)][:left_out]
    taken = {row.sha256 for row in unlike}
    base = base_without(subject, [row for row in ordered if row.sha256 not in taken], about)
    of_subject = _shuffled([row for row in ordered if mentions(row.references, about)])
    others = _shuffled([*unlike, *base.scored])
    found: list[Row] = []
    scoring: list[Row] = []
    for kind, share in ((of_subject, SUBJECT_SHARE), (others, 1 - SUBJECT_SHARE)):
        copied = round(size * share * COPIES_SHARE)
        labelled = kind[: round(size * share) - copied]
        found += [*labelled, *_copies(labelled[:copied], folder)]
        scoring += kind[len(labelled) : len(labelled) + round(scored * share)]
    return Pool(about, base, _shuffled(found), scoring)


def _shuffled(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: manifest.split_position(row.sha256, "labelling:"))


def _copies(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Each of these images once more, cropped, mirrored, made darker, compressed and so on in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for number, row in enumerate(rows):
        name = list(CHANGES)[number % len(CHANGES)]
        path = folder / f"{row.image.stem}-{name}.png"
        if not path.exists():
            with Image.open(row.image) as image, atomic_file(path) as unfinished:
                CHANGES[name](image.convert("RGB"), random.Random(row.image.name)).save(unfinished, "PNG")
        copies.append(replace(row, image=path, sha256=manifest.hash_file(path)))
    return copies
