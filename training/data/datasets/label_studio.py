"""Reads Label Studio's exports "JSON" and "JSON-MIN" of a captioning project."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from training.data.datasets.files import layout, need_one, read_json, warn
from training.data.datasets.splits import UNDECIDED
from training.data.manifest import Row
from training.errors import DataError

CAPTION = "caption"
"""The name of the text area with the captions, if there are several text areas."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_UPLOADS = "/data/upload/"
_LOCAL_FILES = "/data/local-files/"
_WEB = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_UPLOADED = re.compile("^[0-9a-f]{8}-")  # the prefix that Label Studio gives uploaded files


@dataclass
class _Task:
    """The address of a task's image, and the task's texts by the name of their control."""

    image: str
    texts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def read_label_studio(path: Path) -> list[Row]:
    """An export, or the only `*.json` in a folder. Images are not checked or hashed; a row's id is its task's.

    Cancelled annotations are ignored, and if a task has ground truth, its other annotations are. Images are searched
    for in the export's folder and below: uploaded ones by their name in Label Studio, with or without its prefix of
    eight digits, those of local storage by their path or name. Tasks whose image is elsewhere, such as on the web, are
    left out with a warning.
    """
    listing = need_one(path, ["*.json"], "Label Studio's export")
    exported = read_json(listing)
    tasks: dict[str, _Task] = {}
    with layout(listing, "Label Studio's export JSON or JSON-MIN"):
        for entry in exported:
            _add(tasks, entry)
    control = _control({name for task in tasks.values() for name in task.texts}, listing)
    images: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(listing.parent.rglob("*")):
        images[file.name].append(file)
    rows, bare, elsewhere, lost = [], [], [], []
    for number, task in tasks.items():
        if not task.image:
            bare.append(f"task {number} names no image")
        elif not (place := _place(task.image)):
            elsewhere.append(f"task {number} has {task.image}")
        elif not (image := _image(place, images)):
            lost.append(f"{place} of task {number} is not in {listing.parent}")
        else:
            rows.append(Row(image, "", tuple(task.texts.get(control, ())), UNDECIDED, image_id=number))
    warn("Left out", bare, len(tasks), "tasks")
    warn("Left out", elsewhere, len(tasks), "tasks, because images on the web are not downloaded")
    warn("Left out", lost, len(tasks), "tasks")
    if not rows:
        raise DataError(f"None of the images of the {len(tasks)} tasks of {listing} is in {listing.parent}.")
    return rows


def _add(tasks: dict[str, _Task], entry: Mapping[str, Any]) -> None:
    if "annotations" in entry:
        task = tasks.setdefault(str(entry["id"]), _Task(_address(_leaves(entry["data"]))))
        annotations = [each for each in entry["annotations"] if not each.get("was_cancelled")]
        for annotation in [each for each in annotations if each.get("ground_truth")] or annotations:
            for result in annotation.get("result") or []:
                # a text with coordinates describes a region, not the image
                if result.get("type") == "textarea" and "x" not in result["value"]:
                    task.texts[result["from_name"]] += _texts(result["value"])
        return
    # JSON-MIN has an entry per annotation, with the annotated texts between the id and the annotator.
    names = list(entry)
    if "id" not in names or "annotator" not in names:
        raise ValueError("there are neither `annotations` nor an `annotator` in a task")
    task = tasks.setdefault(str(entry["id"]), _Task(_address(entry.values())))
    for name in names[names.index("id") + 1 : names.index("annotator")]:
        if (texts := _texts(entry[name])) and entry[name] != task.image:
            task.texts[name] += texts


def _texts(value: Any) -> list[str]:
    """The texts in a value of a text area: a string, a list of values, or an object with such a `text`."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return _texts(value.get("text", [])) if isinstance(value, dict) else []


def _control(names: set[str], listing: Path) -> str:
    if not names:
        raise DataError(f"{listing} holds no captions: no annotation in it has a text.")
    if len(names) > 1 and CAPTION not in names:
        raise DataError(f"{listing} has several texts, {', '.join(sorted(names))}; none is called {CAPTION!r}.")
    return CAPTION if CAPTION in names else names.pop()


def _leaves(value: Any) -> Iterator[Any]:
    """The values in a task's data, which may be nested."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _address(values: Iterable[Any]) -> str:
    """The first of a task's values that is a URL or the name of an image file."""
    for value in values:
        if isinstance(value, str) and (
            _WEB.fullmatch(value)
            or _UPLOADS in value
            or _LOCAL_FILES in value
            or PurePosixPath(value).suffix.lower() in SUFFIXES
        ):
            return value
    return ""


def _place(address: str) -> str:
    """The path of an image in Label Studio's storage, or the address if it is a path; "" for an image on the web."""
    path, _, query = address.partition("?")
    if _LOCAL_FILES in path:
        return unquote(query.partition("d=")[2]).replace("\\", "/").strip("/")
    if _UPLOADS in path:
        return unquote(path.partition(_UPLOADS)[2])
    return "" if _WEB.fullmatch(address) else address.strip("/")


def _image(place: str, files: Mapping[str, list[Path]]) -> Path | None:
    """The file whose path ends with `place`, else the only file of that name."""
    name = PurePosixPath(place).name
    same_name = files.get(name) or files.get(_UPLOADED.sub("", name)) or []
    exact = [path for path in same_name if f"/{path.as_posix()}".endswith(f"/{place}")]
    if exact:
        return min(exact, key=lambda path: len(path.parts))
    return same_name[0] if len(same_name) == 1 else None
