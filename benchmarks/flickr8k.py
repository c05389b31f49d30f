"""The final recipe on Flickr8k, from image files to scores.

    python -m benchmarks.flickr8k --data flickr8k --weights resnet50.pth --out DIR [--epochs N] [--seed N] [--quick]

Trains on the training images with human captions (first stage), then on rewards for its own captions (second stage),
chooses epochs by the development images and scores both stages on them: beam search, lower-cased tokens without
punctuation, all five references. `alone` is a beam of five without reranking by similar images.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from benchmarks.report import report
from benchmarks.trained import in_stages
from training import metrics
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.data import datasets, manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.evaluation.evaluate import hypotheses

MEANINGS = {
    "first_seconds": "s, features and first stage",
    "second_seconds": "s, second stage",
    "seconds": "s, everything",
    "first_bleu4": "after the first stage (target: 22.5)",
    "first_cider_d": "after the first stage (target: 54)",
    "first_alone_bleu4": "the same without reranking",
    "first_alone_cider_d": "the same without reranking",
    "second_bleu4": "after the second stage (target: 23.5)",
    "second_cider_d": "after the second stage (target: 60)",
    "second_alone_bleu4": "the same without reranking",
    "second_alone_cider_d": "the same without reranking",
    "second_over_first_words": "distinct words, second stage over first (target: 0.667)",
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True, help="Of the encoder.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints and features.")
@click.option("--encoder", default="resnet50", show_default=True)
@click.option("--epochs", default=TrainingConfig.photos().epochs, show_default=True, help="Of human captions.")
@click.option("--seed", default=1, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, weights: Path, out: Path, encoder: str, epochs: int, seed: int, device: str, quick: bool) -> None:
    try:
        first = TrainingConfig.photos(encoder, str(weights), seed=seed, epochs=1 if quick else epochs)
        second = TrainingConfig.rewarded(seed=seed, **({"epochs": 1} if quick else {}))
        figures = run(data, out, first, second, device, limit=16 if quick else None)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    report("flickr8k", figures, MEANINGS)


def run(
    data: Path, out: Path, first: TrainingConfig, second: TrainingConfig, device: str, limit: int | None
) -> dict[str, float]:
    """Both stages and their scores; the checkpoints and features stay in `out`."""
    begun = time.monotonic()
    rows = datasets.read("flickr8k", data, limit=limit)
    dev = [row for row in rows if row.split == manifest.DEV]
    figures: dict[str, float] = {}
    started = begun
    for name, captioner in in_stages(rows, out, {"first": first, "second": second}, device):
        figures[f"{name}_seconds"] = time.monotonic() - started
        figures |= {f"{name}_{key}": value for key, value in scores(captioner, dev, out / "features").items()}
        print(json.dumps(figures), flush=True)
        started = time.monotonic()
    figures["second_over_first_words"] = figures["second_distinct_words"] / figures["first_distinct_words"]
    figures["seconds"] = time.monotonic() - begun
    return figures


def scores(captioner: Captioner, rows: list[Row], cache: Path) -> dict[str, float]:
    references = [row.references for row in rows]
    alone = [item.text for item in hypotheses(captioner, rows, captioner.decoding.quick(), cache)]
    captions = [item.text for item in hypotheses(captioner, rows, None, cache)]
    result = {f"bleu{n}": metrics.bleu(captions, references, n).value for n in (1, 2, 3, 4)}
    result["rouge_l"] = metrics.rouge_l(captions, references).value
    result["cider_d"] = metrics.cider_d(captions, references).value
    result["alone_bleu4"] = metrics.bleu(alone, references).value
    result["alone_cider_d"] = metrics.cider_d(alone, references).value
    result["distinct_words"] = metrics.distinct_words(captions)
    result["mean_length"] = metrics.mean_length(captions)
    return result


if __name__ == "__main__":
    main()
