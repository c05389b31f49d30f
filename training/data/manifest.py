"""A manifest: the images and reference captions to train or evaluate on, one JSON object per line and image.

    {"image": "photos/1.jpg", "sha256": "9f…", "references": ["a dog runs"], "split": "train", "weight": 1.0}

Relative image paths are relative to the manifest's folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError
from training.runtime.files import atomic_file

TRAIN, DEV, HELD_OUT, BLIND = "train", "dev", "held_out", "blind"


@dataclass(frozen=True)
class Row:
    """One image and its reference captions; `sha256` is of the image file's bytes, `weight` scales its loss.

    `image_id` is the data set's own id of the image, `subset` names a part of the data set with scores of its own.
    """

    image: Path
    sha256: str
    references: tuple[str, ...]
    split: str = TRAIN
    weight: float = 1.0
    image_id: str = ""
    subset: str = ""


def load(path: Path, hashes: bool = True) -> list[Row]:
    """The rows of the manifest at `path`. Raises DataError naming the file and line that is wrong.

    Images without a SHA-256 in the manifest are read to compute it; with `hashes` false theirs stays empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines splits inside captions too
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The manifest {path} cannot be read: {error}.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            references = row["references"]
            if not isinstance(references, list) or not all(isinstance(text, str) for text in references):
                raise ValueError("references must be a list of strings")
            rows.append(
                Row(
                    image=path.parent / row["image"],
                    sha256=row.get("sha256") or (hash_file(path.parent / row["image"]) if hashes else ""),
                    references=tuple(references),
                    split=row.get("split", TRAIN),
                    weight=float(row.get("weight", 1.0)),
                    image_id=str(row.get("image_id", "")),
                    subset=str(row.get("subset", "")),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            reason = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"Line {number} of the manifest {path} is not a row: {reason}.") from error
    if not rows:
        raise DataError(f"The manifest {path} holds no rows.")
    return rows


def save(rows: Iterable[Row], path: Path) -> Path:
    """Write a manifest, whole or not at all; returns `path`."""
    with atomic_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(_line(row, path.parent), ensure_ascii=False) + "\n")
    return path


def content_hash(rows: Sequence[Row]) -> str:
    """SHA-256 of the image contents, captions, splits and weights; independent of the images' paths."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.sha256, row.references, row.split, row.weight]).encode())
    return digest.hexdigest()


def split_position(sha256: str, salt: str = "") -> float:
    """A position in [0, 1) computed from the image's hash, so that its split never changes as the data grows."""
    return int(hashlib.sha256(f"{salt}{sha256}".encode()).hexdigest()[:13], 16) / 16**13


def hash_file(path: Path) -> str:
    """SHA-256 of the file's bytes. Raises DataError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"The image {path} cannot be read: {error.strerror}.") from error


def _line(row: Row, folder: Path) -> dict[str, object]:
    image = row.image
    if image.is_absolute() and image.is_relative_to(folder.absolute()):
        image = image.relative_to(folder.absolute())
    elif not image.is_absolute() and image.is_relative_to(folder):
        image = image.relative_to(folder)
    else:
        image = image.absolute()
    return {
        "image": image.as_posix(),
        "sha256": row.sha256,
        "references": list(row.references),
        "split": row.split,
        "weight": row.weight,
        **{name: value for name in ("image_id", "subset") if (value := getattr(row, name))},
    }
