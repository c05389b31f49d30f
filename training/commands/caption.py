"""`captioner caption`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.captioner.checkpoint import load, read_info
from training.commands.options import CHECKPOINT, PATH, Asked, chosen, decoding_options, device_option, example
from training.commands.writing import Output, write_json, writing
from training.errors import DataError

if TYPE_CHECKING:
    import torch

    from training.captioner.captioner import Captioner
    from training.config import DecodingConfig
    from training.decoding.beam_search import Hypothesis

Told = tuple["list[Hypothesis]", "torch.Tensor"]
"""Captions of an image, best first, and its grid (P, C)."""


@click.command(
    epilog=example(
        "captioner caption checkpoint photo.jpg another.png",
        "captioner caption checkpoint photo.jpg --beam 10 --n-best 3 --explain looks",
    )
)
@click.argument("checkpoint", type=CHECKPOINT)
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option("--n-best", type=click.IntRange(1, 64), default=1, help="So many captions of each image, best first [1].")
@click.option("--json", "json_file", type=Output(), help="Write captions and scores here.")
@click.option(
    "--explain",
    "explain_dir",
    type=Output(folder=True),
    help="Draw where each word of the best caption looked: a PNG an image in this folder.",
)
@decoding_options
@device_option
def caption(
    checkpoint: Path,
    images: Sequence[Path],
    n_best: int,
    json_file: Path | None,
    explain_dir: Path | None,
    asked: Asked,
    device: str,
) -> None:
    """Caption image files: a line a caption, with its score between 0 and 1."""
    read_info(checkpoint)
    captioner = load(checkpoint, device)
    decoding = chosen(captioner, asked)
    pictures = _Pictures(captioner, explain_dir) if explain_dir else None
    entries: list[dict[str, Any]] = []
    for image, told in zip(images, _tell(captioner, images, n_best, decoding), strict=True):
        if isinstance(told, DataError):
            click.echo(str(told), err=True)
            entries.append({"image": str(image), "error": str(told)})
            continue
        captions, grid = told
        for one in captions:
            click.echo(f"{image}\t{one.score:.2f}\t{one.text}")
        entry = {"image": str(image), "captions": [{"caption": one.text, "score": one.score} for one in captions]}
        if pictures:
            entry["explanation"] = str(pictures.draw(image, captions[0], grid))
        entries.append(entry)
    if json_file:
        write_json(
            json_file, {"checkpoint": checkpoint.resolve().name, "decoding": decoding.signature(), "images": entries}
        )
    if failed := sum("error" in entry for entry in entries):
        raise click.ClickException(f"{failed} of {len(images)} images could not be captioned.")


def _tell(
    captioner: Captioner, images: Sequence[Path], number: int, decoding: DecodingConfig
) -> Iterator[Told | DataError]:
    """Captions for each image in order, or what is wrong with it; a batch at a time."""
    from itertools import islice

    import numpy as np
    import torch

    from training.captioner.captioner import BATCH
    from training.data import transforms
    from training.runtime import out_of_memory

    loaded = transforms.load_all(images, captioner.side)
    while batch := list(islice(loaded, BATCH)):
        readable = [pixels for pixels in batch if isinstance(pixels, np.ndarray)]
        told: Iterator[Told] = iter(())
        if readable:
            with torch.inference_mode():
                grid = torch.cat(out_of_memory.halved(captioner.encode, np.stack(readable)))  # (B, P, C)
            told = zip(captioner.tell_several(grid, number, decoding), grid, strict=True)
        for item in batch:
            yield item if isinstance(item, DataError) else next(told)


class _Pictures:
    """Explanations in a folder, named as the images are."""

    def __init__(self, captioner: Captioner, folder: Path) -> None:
        from training.evaluation import explain

        explain.check(captioner)
        self._captioner, self._folder = captioner, folder
        self._names: set[str] = set()

    def draw(self, image: Path, told: Hypothesis, grid: torch.Tensor) -> Path:
        """Where the picture of one caption is."""
        from training.evaluation import explain

        words = [self._captioner.vocabulary.words[token] for token in told.tokens]
        maps = explain.attention_maps(self._captioner, grid, told.tokens)
        path = self._folder / f"{self._name(image.stem)}.png"
        with writing(path) as unfinished:
            explain.draw(image, told.text, words, maps).save(unfinished)
        return path

    def _name(self, stem: str) -> str:
        """The stem, with a number where another image of this run has the same."""
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name)
        return name
