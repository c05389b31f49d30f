"""Options that several commands share: the data, the decoding, the device, the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.captioner import bundled
from training.config import DecodingConfig
from training.data import datasets
from training.errors import DataError

if TYPE_CHECKING:
    from training.captioner.captioner import Captioner
    from training.data.manifest import Row


class _Checkpoint(click.Path):
    """A checkpoint folder; "starter" is the one that comes with the project, unless a folder has that name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        return bundled.STARTER if str(path) == "starter" and not path.exists() else path


CHECKPOINT = _Checkpoint(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
PATH = click.Path(path_type=Path)

CACHE = Path("data") / "features"

Command = Callable[..., None]
Overrides = dict[str, Any]
"""Values of a DecodingConfig given on the command line."""


def example(*lines: str) -> str:
    """The examples at the end of a command's help."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


@dataclass(frozen=True)
class Source:
    """Where images and their human captions come from."""

    dataset: str | None
    data_dir: Path | None
    manifest: Path | None
    limit: int | None

    def check(self) -> None:
        """Raises UsageError without a data set or manifest, and DataError where it is not there: for a command that
        does other work before it reads the rows."""
        self._found()

    def rows(self, split: str | None) -> list[Row]:
        """The rows of the split, or of all splits. Raises DataError, and UsageError without a data set or manifest."""
        return datasets.read(*self._found(), split, self.limit)

    def _found(self) -> tuple[str, Path]:
        """The name of the reader and what it reads."""
        path = self.data_dir if self.dataset else self.manifest
        if path is None or (self.dataset and self.manifest):
            raise click.UsageError("Give --dataset with --data-dir, or --manifest.")
        if not path.exists():
            raise DataError(f"Images and captions are to be read from {path}, which is not there.")
        return self.dataset or "jsonl", path

    def rows_to_score(self, split: str | None) -> list[Row]:
        """As `rows`; without a split the dev images of a data set, or the whole manifest."""
        return self.rows(split or ("dev" if self.dataset else None))


def source_options(command: Command) -> Command:
    """--dataset, --data-dir, --manifest and --limit, handed to the command as one `source`."""

    @wraps(command)
    def gathered(
        *, dataset: str | None, data_dir: Path | None, manifest_file: Path | None, limit: int | None, **others: Any
    ) -> None:
        command(source=Source(dataset, data_dir, manifest_file, limit), **others)

    for option in (
        click.option("--limit", type=click.IntRange(1), help="Use only this many images of each split."),
        click.option("--manifest", "manifest_file", type=FILE, help="A manifest (JSON lines) in place of a data set."),
        click.option("--data-dir", type=PATH, help="Folder of the data set, or its file if it is a single one."),
        click.option("--dataset", type=click.Choice(datasets.NAMES), help="A data set in its original files."),
    ):
        gathered = option(gathered)
    return gathered


split_option = click.option("--split", help="train, dev, test or held_out [dev of a data set, all of a manifest].")
cache_option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Cache of encoder features, which are computed once [{CACHE}].",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


def decoding_options(command: Command) -> Command:
    """The options of decoding, handed to the command as one `overrides`, for `decoding_with`.

    What is wrong with them whatever the captioner raises ConfigError or UsageError before the command begins.
    """

    @wraps(command)
    def gathered(**values: Any) -> None:
        given = {name: values.pop(name) for name in _DECODING}
        overrides = {name: value for name, value in given.items() if value is not None}
        replace(DecodingConfig(), **overrides).validate()
        if (search := _of(_OF_SEARCH, overrides)) and overrides.get("top_p"):
            raise click.UsageError(f"--top-p samples instead of searching: leave out {' and '.join(search)}.")
        command(overrides=overrides, **values)

    for name, (kind, meaning) in reversed(_DECODING.items()):
        gathered = click.option(_flag(name), type=kind, default=None, help=meaning)(gathered)
    return gathered


_DECODING: dict[str, tuple[type, str]] = {
    "beam": (int, "Beam width; 1 is greedy search [the checkpoint's own, like all decoding options]."),
    "length_penalty": (float, "Exponent of the length normalisation: higher values give longer captions."),
    "max_length": (int, "Most words of a caption."),
    "neighbours": (
        int,
        "Rerank the beam by similarity to the captions of this many most similar training images; 0: do not.",
    ),
    "top_p": (
        float,
        "Nucleus sampling instead of beam search: sample from the likeliest words with this total probability.",
    ),
    "temperature": (float, "With --top-p: above 1 samples are more diverse, below 1 less."),
    "seed": (int, "Seed of --top-p."),
}
_OF_SEARCH, _OF_SAMPLING = ("beam", "length_penalty", "neighbours"), ("temperature", "seed")


def decoding_with(captioner: Captioner, overrides: Overrides) -> DecodingConfig:
    """The captioner's decoding with the overrides. Raises ConfigError, and UsageError for options without effect."""
    own = captioner.decoding
    if _of(_OF_SEARCH, overrides):
        own = replace(own, top_p=0.0)
    if overrides.get("neighbours") and captioner.retrieval is None:
        raise click.UsageError("The checkpoint has no index of training images: leave out --neighbours.")
    decoding = replace(own, **overrides).validate()
    sampling = _of(_OF_SAMPLING, overrides)
    if sampling and not decoding.top_p:
        raise click.UsageError(f"Nothing is sampled without --top-p: give it, or leave out {sampling[0]}.")
    return decoding


def _of(names: Sequence[str], overrides: Overrides) -> list[str]:
    """The flags of those of the names that are overridden."""
    return [_flag(name) for name in names if name in overrides]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
