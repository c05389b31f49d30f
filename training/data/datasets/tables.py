"""Reads CSV files with one caption per line: spreadsheets, and Kaggle's tables of Flickr8k and Flickr30k."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

from training.data.datasets.files import need_one
from training.data.datasets.splits import UNDECIDED, split_named
from training.data.manifest import Row
from training.errors import DataError

IMAGE = ("image", "file_name", "filename", "image_path", "image_name")
CAPTION = ("caption", "text", "comment")
SPLIT = ("split",)
NUMBER = ("comment_number",)
_NUMBERED = re.compile(r"\s*\d+\s*,?(.*)", re.DOTALL)


def read_csv(path: Path) -> list[Row]:
    """A CSV file, or the only one in a folder. Images are not checked or hashed.

    The header names the columns `image`, `caption` and, optionally, `split`. An image may have several lines. Relative
    paths of images are relative to the file's folder or to `images/` in it.
    """
    table = need_one(path, ["*.csv"], "A CSV data set")
    return [
        Row(_image(table.parent, image), "", tuple(captions), split, image_id=Path(image).stem)
        for image, (split, captions) in _entries(table).items()
    ]


def captions_of(path: Path) -> dict[str, list[str]]:
    """The captions in a CSV file by image. Raises DataError naming the line that is wrong."""
    return {image: captions for image, (_, captions) in _entries(path).items()}


def _entries(path: Path) -> dict[str, tuple[str, list[str]]]:
    """The split and the captions of each image."""
    entries: dict[str, tuple[str, list[str]]] = {}
    for number, image, caption, split in _lines(path):
        first_split, captions = entries.setdefault(image, (split, []))
        captions.append(caption)
        if first_split != split:
            raise DataError(f"Line {number} of {path} puts {image} into another split than a line before it.")
    if not entries:
        raise DataError(f"{path} holds no captions.")
    return entries


def _lines(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """For each line its number, image, caption and split."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file)
            header = [name.strip().lower() for name in next(table, [])]
            columns = (IMAGE, CAPTION, SPLIT, NUMBER)
            at_image, at_caption, at_split, at_number = (_column(header, names) for names in columns)
            if at_image is None or at_caption is None:
                raise DataError(f"{path} needs the columns image and caption; its first line is {','.join(header)!r}.")
            for cells in table:
                if not any(cells):
                    continue
                if at_caption == len(header) - 1 and at_number == at_caption - 1:
                    cells = _with_number(cells, at_caption)
                if len(cells) > len(header) == at_caption + 1:  # unquoted commas in the last column
                    cells[at_caption:] = [",".join(cells[at_caption:])]
                if len(cells) != len(header) or not cells[at_image].strip():
                    raise DataError(f"Line {table.line_num} of {path} is not {','.join(header)}: {','.join(cells)!r}.")
                try:
                    split = split_named(cells[at_split]) if at_split is not None else UNDECIDED
                except ValueError as error:
                    raise DataError(f"Line {table.line_num} of {path} cannot be placed: {error}.") from error
                yield table.line_num, cells[at_image].strip(), cells[at_caption], split
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from error


def _with_number(cells: list[str], at_caption: int) -> list[str]:
    """The cells, number and caption apart: every copy of Kaggle's table of Flickr30k has a line with both in one."""
    *others, number = cells[:at_caption]
    if number.strip().isdigit() and len(cells) > at_caption:
        return cells
    numbered = _NUMBERED.fullmatch(",".join(cell for cell in cells[at_caption - 1 :] if cell))
    return [*others, "", numbered[1]] if numbered else cells


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _image(folder: Path, name: str) -> Path:
    beside, inside = folder / name, folder / "images" / name
    return inside if os.path.exists(inside) and not os.path.exists(beside) else beside  # False for invalid names
