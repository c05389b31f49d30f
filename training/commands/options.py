"""Options of several commands: where the images are, how captions are found, where the arithmetic runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.config import DecodingConfig
from training.data import datasets

if TYPE_CHECKING:
    from training.captioner.captioner import Captioner
    from training.data.manifest import Row

CHECKPOINT = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
PATH = click.Path(path_type=Path)

CACHE = Path("data") / "features"

Command = Callable[..., None]
Asked = dict[str, Any]
"""Values of a DecodingConfig that were asked for."""


def example(*lines: str) -> str:
    """The closing lines of a command's help."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


@dataclass(frozen=True)
class Source:
    """Where images and their human captions come from."""

    dataset: str | None
    data_dir: Path | None
    manifest: Path | None
    limit: int | None

    def rows(self, split: str | None) -> list[Row]:
        """The rows of the split, or of all splits. Raises DataError, and UsageError where no place is named."""
        if self.manifest and not self.dataset:
            return datasets.read("jsonl", self.manifest, split, self.limit)
        if self.dataset and self.data_dir and not self.manifest:
            return datasets.read(self.dataset, self.data_dir, split, self.limit)
        raise click.UsageError("Give --dataset with --data-dir, or --manifest.")

    def rows_to_judge(self, split: str | None) -> list[Row]:
        """As `rows`, where no split is given the data set's dev images or the whole manifest."""
        return self.rows(split or ("dev" if self.dataset else None))


def source_options(command: Command) -> Command:
    """--dataset, --data-dir, --manifest and --limit, which the command gets as one `source`."""

    @wraps(command)
    def gathered(
        *, dataset: str | None, data_dir: Path | None, manifest_file: Path | None, limit: int | None, **others: Any
    ) -> None:
        command(source=Source(dataset, data_dir, manifest_file, limit), **others)

    for option in (
        click.option("--limit", type=click.IntRange(1), help="Only the first so many images of each split."),
        click.option("--manifest", "manifest_file", type=FILE, help="A manifest (JSON lines) in place of a data set."),
        click.option("--data-dir", type=PATH, help="The data set's folder; its file, where it is only one."),
        click.option("--dataset", type=click.Choice(datasets.NAMES), help="A data set in its original files."),
    ):
        gathered = option(gathered)
    return gathered


def split_option(command: Command) -> Command:
    text = "train, dev, test or held_out [dev of a data set, all of a manifest]."
    return click.option("--split", help=text)(command)


def decoding_options(command: Command) -> Command:
    """How captions are found; the command gets what was given as one `asked`, for `chosen`."""

    @wraps(command)
    def gathered(**values: Any) -> None:
        given = {name: values.pop(name) for name in _DECODING}
        command(asked={name: value for name, value in given.items() if value is not None}, **values)

    for name, (kind, meaning) in reversed(_DECODING.items()):
        gathered = click.option(_flag(name), type=kind, default=None, help=meaning)(gathered)
    return gathered


_DECODING: dict[str, tuple[type, str]] = {
    "beam": (int, "Width of the beam search; 1 is greedy [the checkpoint's own, as all of these]."),
    "length_penalty": (float, "The higher, the longer captions are."),
    "min_length": (int, "Words a caption has at least."),
    "max_length": (int, "Words a caption has at most."),
    "no_repeat": (int, "No caption has so many words in the same order twice; 0: any may."),
    "neighbours": (
        int,
        "Rerank the beam by similarity to the captions of this many most similar training images; 0: do not.",
    ),
    "top_p": (float, "Draw words from the likeliest that together have this probability, in place of a search."),
    "temperature": (float, "With --top-p: above 1 more daring, below 1 less."),
    "seed": (int, "With --top-p: another seed draws others."),
}
_OF_SEARCH, _OF_DRAWING = ("beam", "length_penalty", "no_repeat", "neighbours"), ("temperature", "seed")


def chosen(captioner: Captioner, asked: Asked) -> DecodingConfig:
    """A checkpoint's own decoding with what was asked for. Raises ConfigError; UsageError for what has no effect."""
    own = captioner.decoding
    search = [_flag(name) for name in _OF_SEARCH if name in asked]
    if search and asked.get("top_p"):
        raise click.UsageError(f"--top-p draws captions in place of a search: leave out {' and '.join(search)}.")
    if search:
        own = replace(own, top_p=0.0)
    if asked.get("neighbours") and captioner.retrieval is None:
        raise click.UsageError("The checkpoint remembers no images that it has learned from: leave out --neighbours.")
    decoding = replace(own, **asked).validate()
    drawing = [_flag(name) for name in _OF_DRAWING if name in asked]
    if drawing and not decoding.top_p:
        raise click.UsageError(f"Nothing is drawn at random without --top-p: give it, or leave out {drawing[0]}.")
    return decoding


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def cache_option(command: Command) -> Command:
    text = f"Encoder outputs are kept here and computed once [{CACHE}]."
    return click.option("--cache-dir", type=click.Path(path_type=Path, file_okay=False), help=text)(command)


def device_option(command: Command) -> Command:
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")(command)
