"""Checks that every image of a data set can be decoded, and computes its hash."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from training.data.datasets.files import warn
from training.data.manifest import Row
from training.errors import DataError
from training.runtime.console import ProgressBar

THREADS = 4  # decoding, hashing and reading release the GIL


def checked(rows: Sequence[Row], data_dir: Path) -> list[Row]:
    """The rows whose image can be decoded, with its hash; the others are left out, with a warning per kind of fault.

    Raises DataError when no image can be used.
    """
    good: list[Row] = []
    faults: dict[str, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(THREADS) as threads, ProgressBar("Reading images") as bar:
        results = threads.map(_check, [row.image for row in rows])
        for done, (row, (sha256, fault)) in enumerate(zip(rows, results, strict=True), start=1):
            bar.show(done, len(rows))
            if fault:
                faults[fault].append(f"{row.image.name} {fault}")
            else:
                good.append(replace(row, sha256=sha256))
    if rows and not good:
        first = next(iter(faults.values()))[0]
        raise DataError(f"None of the {len(rows)} images of {data_dir} can be used; the first: {first}.")
    for examples in faults.values():
        warn("Left out", examples, len(rows), "images")
    return good


def _check(path: Path) -> tuple[str, str]:
    """An image's SHA-256 and "", or "" and what is wrong with the file."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return "", f"cannot be read ({getattr(error, 'strerror', None) or error})"
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (64, 64))  # JPEG then decodes at an eighth of the size, several times faster
            image.load()
    except Exception:  # Pillow's plugins raise nearly anything on damaged files
        return "", "is not a whole image"
    return hashlib.sha256(content).hexdigest(), ""
