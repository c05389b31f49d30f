"""`captioner caption`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from PIL import Image

from training.captioner import bundled
from training.captioner.checkpoint import load, read_info
from training.commands.answers import answer_in, json_file_option, show
from training.commands.options import (
    CHECKPOINT,
    PATH,
    Overrides,
    decoding_options,
    decoding_with,
    device_option,
    example,
)
from training.commands.writing import Output, writing
from training.errors import DataError
from training.runtime.console import counted

if TYPE_CHECKING:
    from training.decoding.beam_search import Hypothesis


@click.command(
    epilog=example(
        "captioner caption photo.jpg",
        "captioner caption checkpoint photo.jpg --beam 10 --n-best 3 --explain maps",
    )
)
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="[CHECKPOINT] IMAGES...")
@click.option("--n-best", type=click.IntRange(1, 64), default=1, help="Captions per image, best first [1].")
@json_file_option
@click.option(
    "--explain",
    "explain_dir",
    type=Output(folder=True),
    help="Draw the attention maps of the best caption's words: one PNG per image in this folder.",
)
@decoding_options
@device_option
def caption(
    paths: Sequence[Path],
    n_best: int,
    json_file: Path | None,
    explain_dir: Path | None,
    overrides: Overrides,
    device: str,
) -> None:
    """Caption image files.

    Prints one line per caption: image, score between 0 and 1, caption. The score is the mean probability of its words.
    With --n-best the number that orders the captions, the best first, stands beside it: length and similarity to other
    captions count in it too.

    Without CHECKPOINT, or with the word `starter`, the captioner that comes with the project captions them.
    """
    named = paths[0].is_dir() or (len(paths) > 1 and not paths[0].is_file())
    checkpoint: Path = CHECKPOINT.convert(paths[0], None, None) if named else bundled.STARTER
    images = paths[named:]
    if not images:
        raise click.MissingParameter(param_hint="'IMAGES...'", param_type="argument")
    read_info(checkpoint)
    faults = list(takewhile(bool, map(_fault, images)))
    if len(faults) == len(images):  # a captioner takes longer to load
        for fault in faults:
            click.echo(fault, err=True)
        raise _failed(len(images), images)
    captioner = load(checkpoint, device)
    decoding = decoding_with(captioner, overrides)
    if explain_dir:
        from training.evaluation import explain

        explain.check(captioner)
    drawn: set[Path] = set()
    entries: list[dict[str, Any]] = []
    for image, result in zip(images, captioner.caption_n_best(images, n_best, decoding), strict=True):
        if isinstance(result, DataError):
            click.echo(str(result), err=True)
            entries.append({"image": str(image), "error": str(result)})
            continue
        captions, grid = result
        for each in captions:
            rank = f"\t{each.ranking_score:.3f}" if n_best > 1 else ""
            show(f"{image}\t{each.score:.2f}{rank}\t{each.text}")
        entry = {"image": str(image), "captions": [_values(each) for each in captions]}
        if explain_dir:
            names = (image.stem, *(f"{image.stem}-{number}" for number in range(2, len(images) + 1)))
            path = next(path for name in names if (path := explain_dir / f"{name}.png") not in drawn)
            drawn.add(path)
            words = [captioner.vocabulary.words[token] for token in captions[0].tokens]
            maps = explain.attention_maps(captioner, grid, captions[0].tokens)
            with writing(path) as unfinished:
                explain.draw(image, captions[0].text, words, maps).save(unfinished)
            entry["explanation"] = str(path)
        entries.append(entry)
    answer_in(json_file, {"checkpoint": checkpoint.resolve().name, "decoding": decoding.signature(), "images": entries})
    if failed := sum("error" in entry for entry in entries):
        raise _failed(failed, images)


def _values(caption: Hypothesis) -> dict[str, Any]:
    return {"caption": caption.text, "score": caption.score, "ranking_score": caption.ranking_score}


def _fault(image: Path) -> str:
    """Why the file is no image, as far as that shows before it is decoded; empty where it does not."""
    try:
        with Image.open(image):
            return ""
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        return f"The image {image} cannot be read: {error}."


def _failed(number: int, images: Sequence[Path]) -> click.ClickException:
    return click.ClickException(f"{number} of {counted(len(images), 'image')} could not be captioned.")
