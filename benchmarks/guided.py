"""A hint is answered with a completed caption: its time beside that of an ordinary draft, on one thread.

    python -m benchmarks.guided --data flickr8k [--quick]

The starter captions dev photographs of Flickr8k, from the file on. Each is completed from a start, from a phrase, and
from a start with two phrases. Ratios are of the same photo, one right after the other.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
import torch

from benchmarks.report import percentile, report
from training.captioner import checkpoint
from training.captioner.bundled import starter
from training.captioner.captioner import Captioner
from training.data import datasets, manifest
from training.errors import TrainingError
from training.vocabulary import tokenize

PHOTOS = 100
HINTS = {"start": "Two children", "phrase": "red bus", "both": "A man... frisbee, Copacabana beach"}

MEANINGS = {
    "draft_ms": "an ordinary draft, median",
    **{f"{name}_ms": f"the hint “{hint}”, median" for name, hint in HINTS.items()},
    **{f"{name}_p95_ms": f"the hint “{hint}”, 95th percentile" for name, hint in HINTS.items()},
    **{f"{name}_ratio": f"the hint “{hint}”, in ordinary drafts, median" for name, hint in HINTS.items()},
    "median_ms": "any hint, median (target: 300)",
    "met": "share of the captions that have what was asked for",
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, quick: bool) -> None:
    torch.set_num_threads(1)
    try:
        rows = datasets.read("flickr8k", data, split=manifest.DEV, limit=2 if quick else PHOTOS)
        captioner = checkpoint.load(starter(), "cpu").warm_up()
        report("guided", figures(captioner, [row.image for row in rows]), MEANINGS)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error


def figures(captioner: Captioner, photos: list[Path]) -> dict[str, float]:
    """Milliseconds and ratios; the first photo warms up what does not count."""
    took: dict[str, list[float]] = {name: [] for name in ("draft", *HINTS)}
    met = []
    for photo in (photos[0], *photos):
        for name, hint in {"draft": "", **HINTS}.items():
            began = time.perf_counter()
            pixels = [captioner.read(photo)]
            (found,) = captioner.complete(pixels, hint) if hint else captioner.caption_pixels(pixels)
            took[name].append(time.perf_counter() - began)
            if hint:
                met.append(_has(found.text, hint))
    took = {name: [1000 * each for each in seconds[1:]] for name, seconds in took.items()}
    hinted = [each for name in HINTS for each in took[name]]
    return {
        **{f"{name}_ms": statistics.median(each) for name, each in took.items()},
        **{f"{name}_p95_ms": percentile(took[name], 0.95) for name in HINTS},
        **{
            f"{name}_ratio": statistics.median(
                one / draft for one, draft in zip(took[name], took["draft"], strict=True)
            )
            for name in HINTS
        },
        "median_ms": statistics.median(hinted),
        "met": statistics.mean(met),
    }


def _has(text: str, hint: str) -> bool:
    """Whether the caption has all words of the hint, in whatever order."""
    return set(tokenize(hint)) <= set(tokenize(text))


if __name__ == "__main__":
    main()
