"""Examples of a version: drafts of held-out images beside what people wrote, with attention maps, kept as small files.

They are made when a retrain ends, by the process that trained: nobody waits for them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.data import manifest
from training.data.manifest import Row
from training.errors import DataError

if TYPE_CHECKING:
    from training.captioner.captioner import Captioner

log = logging.getLogger(__name__)

FOLDER, LIST = "examples", "examples.json"
"""The folder in that of the checkpoint, and the file in it that lists the examples."""
MOST = 4
"""Images; each costs about as much as two drafts."""


@dataclass(frozen=True)
class Example:
    """A version's draft of an image that it was not trained on, and people's captions of it.

    `picture` is the file with the attention maps, empty where there is none.
    """

    image: str
    draft: str
    captions: tuple[str, ...]
    picture: str = ""


@dataclass(frozen=True)
class Examples:
    """`without` says in a sentence why there are no attention maps; it is empty where there are."""

    examples: tuple[Example, ...] = ()
    without: str = ""


def load(checkpoint: Path) -> Examples:
    """The examples of the version with this checkpoint. What is missing or damaged is described; it is no error."""
    try:
        found = json.loads((checkpoint / FOLDER / LIST).read_bytes())
        listed = [Example(**{**each, "captions": tuple(each["captions"])}) for each in found["examples"]]
        return Examples(tuple(listed), str(found["without"]))
    except FileNotFoundError:
        if not checkpoint.is_dir():
            return Examples(without="There are no attention maps here: the checkpoint is not on this machine.")
        return Examples(without="There are no attention maps: they are drawn when a retrain ends, and none was then.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("The examples of %s cannot be read: %s", checkpoint, error)
        return Examples(without="The attention maps cannot be read; the log of the ML backend says why.")


def picture(checkpoint: Path, number: int) -> Path | None:
    """The file with the attention maps of the example of that number, from 0; None where there is none."""
    examples = load(checkpoint).examples
    if not 0 <= number < len(examples) or not (name := Path(examples[number].picture).name):
        return None
    file = checkpoint / FOLDER / name
    return file if file.is_file() else None


def make(captioner: Captioner, rows: Sequence[Row], checkpoint: Path) -> None:
    """Draft some of the rows, always the same ones as far as they are there, and draw what each word attended to.

    A version without examples is better than none, so nothing is raised.
    """
    shown = sorted(rows, key=lambda row: manifest.split_position(row.sha256, "examples:"))[:MOST]
    try:
        folder = checkpoint / FOLDER
        folder.mkdir(exist_ok=True)
        without = _without(captioner, bool(shown))
        drafted = tuple(_drafted(captioner, shown, None if without else folder))
        if shown and not drafted:
            without = "There are no attention maps: none of the held-out images could be read."
        found = asdict(Examples(drafted, without))
        (folder / LIST).write_text(json.dumps(found, ensure_ascii=False, indent=2), encoding="utf-8")
    except Exception:
        log.exception("The examples of %s could not be made.", checkpoint)


def _without(captioner: Captioner, any_image: bool) -> str:
    if not any_image:
        return "There are no attention maps: no image was held out yet."
    if not captioner.decoder.attends:
        return f"There are no attention maps: {captioner.decoder.config.architecture} is a decoder without attention."
    return ""


def _drafted(captioner: Captioner, rows: Sequence[Row], folder: Path | None) -> Iterator[Example]:
    """An example of each row that can be read; its attention maps are drawn into the folder, if there is one."""
    from training.evaluation import explain  # imports torch, which whoever only reads examples does not need

    drafts = captioner.caption_n_best([row.image for row in rows], 1)
    for number, (row, result) in enumerate(zip(rows, drafts, strict=True), start=1):
        if isinstance(result, DataError):
            log.warning("%s", result)
            continue
        (draft, *_), grid = result
        name = ""
        if folder and draft.tokens:
            words = [captioner.vocabulary.words[token] for token in draft.tokens]
            maps = explain.attention_maps(captioner, grid, draft.tokens)
            name = f"{number}.jpg"
            explain.draw(row.image, draft.text, words, maps).save(folder / name, quality=85, optimize=True)
        yield Example(row.image_id or row.image.name, draft.text, row.references, name)
