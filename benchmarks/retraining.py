"""What a retrain costs: the same new corrections on a small and on a large base, and against training anew.

    python -m benchmarks.retraining --data flickr8k --out DIR [--turns 3] [--quick]

The bases are Flickr8k training images with five captions each, learned by the starter's recipe (its human captions), as
what a project retrains first. The corrections are one caption each of development images. Features of all images are
cached before. A retrain is everything from the manifests to the checkpoint: training and the choice of the
interpolation; the gate is measured apart. Training anew on everything is measured for `--full-epochs` of the recipe's
epochs and extrapolated to all of them.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from benchmarks.report import report
from benchmarks.starter import KNEE, RECIPES
from training.captioner import checkpoint
from training.continual.incremental import CHOOSING_ROWS, RetrainingData, retrain
from training.data import datasets, manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.evaluation.evaluate import hypotheses
from training.learning.train import train

MEANINGS = {
    "base_size_ratio": "retrain on the large base over the same on the small one (target: at most 1.2)",
    "full_over_incremental": "training anew on everything over a retrain (target: at least 8)",
    "retrain_small_seconds": "s, median",
    "retrain_large_seconds": "s, median",
    "full_seconds": "s, all epochs of the recipe",
    "full_epochs_measured": "epochs of them that were run",
    "gate_seconds": "s, both models captioning the held-out images, as the gate has them do",
    "corrections": "new pairs",
    "small_pairs": "pairs of the small base",
    "large_pairs": "pairs of the large base",
}
PATH = click.Path(path_type=Path)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--out", type=PATH, required=True, help="Folder for checkpoints and features.")
@click.option("--corrections", default=200, show_default=True)
@click.option("--small", default=600, show_default=True, help="Images of the small base.")
@click.option("--large", default=6000, show_default=True, help="Images of the large base.")
@click.option("--turns", default=3, show_default=True, help="Retrains of each.")
@click.option("--full-epochs", default=1, show_default=True, help="Epochs of training anew that are run.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(
    data: Path,
    out: Path,
    corrections: int,
    small: int,
    large: int,
    turns: int,
    full_epochs: int,
    quick: bool,
) -> None:
    if quick:
        corrections, small, large, turns = 8, 16, 32, 1
    try:
        rows = datasets.read("flickr8k", data, limit=large)
        figures = run(rows, out, corrections, (small, large), turns, full_epochs)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    report("retraining", figures, MEANINGS)


def run(
    rows: list[Row],
    out: Path,
    corrections: int,
    sizes: tuple[int, int],
    turns: int,
    epochs: int,
) -> dict[str, float]:
    base = [row for row in rows if row.split == manifest.TRAIN]
    others = [replace(row, references=row.references[:1]) for row in rows if row.split == manifest.DEV]
    new, held_out = others[:corrections], others[corrections : 2 * corrections]
    choosing = others[2 * corrections : 2 * corrections + CHOOSING_ROWS]
    cache = out / "features"
    champions, full_seconds = {}, 0.0
    recipe, _ = RECIPES[KNEE]()
    for images in sizes:
        listed = manifest.save(base[:images], out / f"base-{images}.jsonl")
        rows_of_base = [*base[:images], *others]  # the recipe chooses the epoch by development images
        # both make the same number of steps: a captioner that has learned less says less, and is retrained sooner
        config = replace(recipe, epochs=epochs * (sizes[1] // images))
        champion = train(rows_of_base, out / f"champion-{images}", config, cache_dir=cache)
        history = checkpoint.read_info(champion)["extra"]["history"]
        full_seconds = statistics.mean(entry["seconds"] for entry in history) * recipe.epochs
        champions[images] = (champion, listed)

    seconds: dict[int, list[float]] = {images: [] for images in sizes}
    for _ in range(turns):
        for images, (champion, listed) in champions.items():
            retrained = out / f"retrained-{images}"
            shutil.rmtree(retrained, ignore_errors=True)
            begun = time.monotonic()
            lessons = RetrainingData(new, [], manifest.load(listed), choosing)
            retrain(checkpoint.load(champion), lessons, retrained, cache_dir=cache)
            seconds[images].append(time.monotonic() - begun)

    begun = time.monotonic()
    for folder in (champions[sizes[1]][0], out / f"retrained-{sizes[1]}"):
        hypotheses(checkpoint.load(folder), held_out, None, cache)
    small, large = (seconds[images] for images in sizes)
    return {
        **_ratios(small, large, full_seconds),
        "full_epochs_measured": epochs,
        "gate_seconds": time.monotonic() - begun,
        "corrections": len(new),
        "small_pairs": sum(len(row.references) for row in base[: sizes[0]]),
        "large_pairs": sum(len(row.references) for row in base[: sizes[1]]),
    }


def _ratios(small: Sequence[float], large: Sequence[float], full_seconds: float) -> dict[str, float]:
    """Of the seconds of retrains on either base, by their medians."""
    on_small, on_large = statistics.median(small), statistics.median(large)
    return {
        "base_size_ratio": on_large / on_small,
        "full_over_incremental": full_seconds / on_large,
        "retrain_small_seconds": on_small,
        "retrain_large_seconds": on_large,
        "full_seconds": full_seconds,
    }


if __name__ == "__main__":
    main()
