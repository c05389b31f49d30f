"""The corrections of a project as a folder that `datasets.load_dataset` reads: an image folder for each split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.domain.errors import CaptionerError
from backend.images.inline import named
from backend.reports.export.pairs import Pair, with_copies
from backend.settings import Settings
from training.data import manifest
from training.runtime.console import counted
from training.runtime.files import atomic_folder

SPLITS = {manifest.TRAIN: "train", manifest.DEV: "validation", manifest.HELD_OUT: "test", manifest.BLIND: "test"}
"""Names of `datasets` for the project's splits. The gate judges on both that become `test`."""
SIZES = (("n<1K", 1_000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000))
"""Categories by which data sets are found."""


@dataclass(frozen=True)
class Written:
    """What a folder got: images and captions, and the sources of images that are not here."""

    images: int
    captions: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{counted(self.images, 'image')} with {counted(self.captions, 'caption')}"
        if not self.missing:
            return f"{text}."
        are = "is" if len(self.missing) == 1 else "are"
        return f"{text}; {counted(len(self.missing), 'image')} {are} not here and left out, such as {self.missing[0]}."


def check(folder: Path) -> None:
    """Raises CaptionerError where something is in the folder, of which nothing would be kept, and for the current one,
    which would be replaced under whoever works in it."""
    try:
        if folder.exists() and folder.samefile("."):
            raise CaptionerError(f"{folder.absolute()} is the current folder: name a new one, such as captions.")
        if folder.exists() and any(folder.iterdir()):
            raise CaptionerError(f"The folder {folder} is not empty: name another, or empty it.")
    except OSError as error:
        raise CaptionerError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def write(settings: Settings, project_id: int, pairs: Sequence[Pair], folder: Path) -> Written:
    """Make the folder, whole or not at all, with a copy of each image that is here or in the image archive.

    Raises CaptionerError when it cannot be written, or when none of the images is here.
    """
    check(folder)
    captioned = [pair for pair in pairs if pair.captions]
    counts: dict[str, tuple[int, int]] = {}
    missing: dict[str, None] = {}
    try:
        with atomic_folder(folder) as unfinished:
            for split in dict.fromkeys(SPLITS.values()):
                own = [pair for pair in captioned if SPLITS.get(pair.split, "train") == split]
                own = with_copies(settings, own, unfinished / split)
                missing |= {named(pair.correction.image or "none"): None for pair in own if pair.image is None}
                rows = _rows(own)
                if rows:
                    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                    (unfinished / split / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
                    counts[split] = len(rows), sum(len(row["captions"]) for row in rows)
            if not counts:
                raise CaptionerError(
                    f"None of the images of project {project_id} is here, such as {next(iter(missing), 'none')}: "
                    "nothing is written."
                )
            (unfinished / "README.md").write_text(_card(project_id, counts), encoding="utf-8")
    except OSError as error:
        raise CaptionerError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    images, captions = (sum(each[place] for each in counts.values()) for place in (0, 1))
    return Written(images, captions, tuple(missing))


def _rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """A row for each image that is here: several annotations of it are one row with several captions.

    Who annotated it and where it came from stay here, since a data set is made to be passed on.
    """
    images: dict[Path, list[Pair]] = {}
    for pair in pairs:
        if pair.image is not None:
            images.setdefault(pair.image, []).append(pair)
    return [
        {
            "file_name": image.name,
            "captions": [caption for pair in own for caption in pair.captions],
            "drafts": [pair.correction.draft_text or "" for pair in own for _ in pair.captions],
            "accepted": [pair.correction.accepted for pair in own for _ in pair.captions],
            "project_split": own[0].split,
        }
        for image, own in images.items()
    ]


def _card(project_id: int, counts: Mapping[str, tuple[int, int]]) -> str:
    """The data set's card, with the categories by which it is found."""
    images = sum(number for number, _ in counts.values())
    size = next((name for name, most in SIZES if images < most), "n>1M")
    rows = "\n".join(f"| {split} | {number} | {captions} |" for split, (number, captions) in counts.items())
    return f"""---
pretty_name: Corrected captions of project {project_id}
task_categories:
- image-to-text
size_categories:
- {size}
tags:
- image-captioning
- label-studio-captioner
---

# Corrected captions of project {project_id}

Captions that people submitted in Label Studio, most of them after correcting a captioner's draft. Written by
`captioner export --to hf-datasets`; `datasets.load_dataset` reads the folder.

| split | images | captions |
| --- | --- | --- |
{rows}

| column | meaning |
| --- | --- |
| `image` | the image, named by the SHA-256 of its content |
| `captions` | the captions that people submitted |
| `drafts` | the draft that each caption was made from; empty where there was none |
| `accepted` | whether the draft was submitted unchanged |
| `project_split` | `train` is trained on, `dev` (validation) chooses, `held_out` and `blind` (test) judge |

A caption that began as a draft favours the captioner that wrote the draft. Annotators of `blind` images saw none:
compare captioners on these.

The licence of the images and captions is not known here. State it before you pass the folder on.
"""
