"""Compares designs of captioners at equal small budgets on Flickr8k, from cached features.

    python -m benchmarks.captioners --data flickr8k --weights resnet50.pth --mobilenet-weights mobilenet_v2.pth \\
        --out DIR [--epochs 4] [--images 6000] [--only two-layer-lstm …] [--quick]

Each design differs from the first in one choice. All see the same images, captions and epochs; the self-critical one
spends the last of its epochs on rewards. Scores are on the development images, by beam search.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.flickr8k import scores
from benchmarks.report import report
from benchmarks.trained import seconds, trained
from training.captioner import checkpoint
from training.config import (
    DecoderConfig,
    DecodingConfig,
    EncoderConfig,
    TrainingConfig,
    TransformConfig,
)
from training.data import datasets, manifest
from training.data.manifest import Row
from training.errors import TrainingError

DESIGNS: dict[str, DecoderConfig] = {
    "two-layer-lstm": DecoderConfig(),
    "two-layer-gru": DecoderConfig(cell="gru"),
    "show-attend-tell": DecoderConfig(architecture="show_attend_tell"),
    "initial-state": DecoderConfig(architecture="initial_state"),
    "first-input": DecoderConfig(architecture="first_input"),
    "every-step": DecoderConfig(architecture="every_step"),
}
"""Decoders on ResNet-50; the first also on MobileNetV2, and with rewards."""
SMALL: dict[str, Any] = {
    "captions_per_image": 2,
    "augmented": False,
    "decoding": DecodingConfig(length_penalty=0.7),
    "dropout": 0.4,
    "grid_dropout": 0.2,
}
"""What makes the budget small: two captions and one view of an image an epoch, and no captioning after each. In so few
epochs little is overfitted, so dropout is lower."""
MOBILENET, REWARDED = "mobilenet-v2", "self-critical"
FIGURES = ("bleu4", "cider_d", "rouge_l", "distinct_words", "mean_length")
PATH = click.Path(path_type=Path)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True, help="Of ResNet-50.")
@click.option("--mobilenet-weights", type=PATH, help="Of MobileNetV2; without them it is left out.")
@click.option("--out", type=PATH, required=True, help="Folder for checkpoints and features.")
@click.option("--epochs", default=4, show_default=True, type=click.IntRange(2))
@click.option("--images", default=6000, show_default=True, help="Training images.")
@click.option("--only", multiple=True, help="Names of the designs to train, of the table.")
@click.option("--device", default="auto", show_default=True)
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(
    data: Path,
    weights: Path,
    mobilenet_weights: Path | None,
    out: Path,
    epochs: int,
    images: int,
    only: tuple[str, ...],
    device: str,
    quick: bool,
) -> None:
    if quick:
        epochs, images, only = 2, 16, ("two-layer-lstm", "show-attend-tell", REWARDED)
    try:
        rows = datasets.read("flickr8k", data, limit=images)
        designs = _designs(weights, mobilenet_weights, epochs)
        if unknown := sorted(set(only) - set(designs)):
            raise click.UsageError(f"There is no design {unknown[0]}; there are {', '.join(designs)}.")
        found = {
            name: _measure(name, config, rows, out, device)
            for name, config in designs.items()
            if name in only or not only
        }
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    figures = {f"{name}_{key}": value for name, values in found.items() for key, value in values.items()}
    report("captioners", figures, {})


def _designs(weights: Path, mobilenet_weights: Path | None, epochs: int) -> dict[str, TrainingConfig]:
    usual = TrainingConfig.photos("resnet50", str(weights), transform=TransformConfig(), epochs=epochs, **SMALL)
    # its last level, one side, one size: small, too
    usual = replace(usual, encoder=EncoderConfig("resnet50", str(weights)), decoder=DecoderConfig())
    designs = {name: replace(usual, decoder=decoder) for name, decoder in DESIGNS.items()}
    if mobilenet_weights is not None:
        designs[MOBILENET] = replace(usual, encoder=EncoderConfig("mobilenet_v2", str(mobilenet_weights)))
    designs[REWARDED] = replace(usual, epochs=epochs - 1, self_critical_epochs=1)
    return designs


def _measure(name: str, config: TrainingConfig, rows: list[Row], out: Path, device: str) -> dict[str, float]:
    """The scores, and the seconds of the epochs: without the computing of features.

    A design that an earlier run has trained in the same way is only scored.
    """
    folder = trained(rows, out / name, config, out / "features", device)
    dev = [row for row in rows if row.split == manifest.DEV]
    found = scores(checkpoint.load(folder, device), dev, out / "features")
    figures = {key: found[key] for key in FIGURES} | {"seconds": seconds(folder)}
    print(f"{name}: {', '.join(f'{key} {value:.1f}' for key, value in figures.items())}", flush=True)
    return figures


if __name__ == "__main__":
    main()
