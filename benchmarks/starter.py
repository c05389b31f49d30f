"""The starter, which comes with the project: trained on Flickr8k, packed with its model card, scored and timed.

    python -m benchmarks.starter --data flickr8k --out DIR [--recipe NAME] [--seed N] [--quick]

Trains on the training images with human captions, then on rewards; the development images choose the epochs. Then
DIR/starter is what `training/captioner/starter` holds: weights in half precision without captions or features of
images, their checksums and MODEL_CARD.md. Scores are its own on the development images, by beam search alone.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import click

from benchmarks.report import machine, report
from benchmarks.trained import in_stages
from training import metrics
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import EncoderConfig, TrainingConfig
from training.data import datasets, manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.evaluation.evaluate import hypotheses
from training.runtime.device import has_bfloat16

Stages = tuple[TrainingConfig, TrainingConfig]
"""Human captions, then rewards."""
TWO_VIEWS = TrainingConfig.photos().encoder.views
WARM, DRAFTS, BATCHED, LOADS = 3, 30, 128, 5

MEANINGS = {
    "train_seconds": "s, features and both stages",
    "bleu4": "on the development images, beam search alone (target: 23.5)",
    "cider_d": "on the development images, beam search alone (target: 57)",
    "distinct_words": "in these captions",
    "mean_length": "words a caption",
    "megabytes": "of the weights, in half precision (limit: 40)",
    "load_ms": "ms, loading, median of 5 (limit: 1,000)",
    "draft_ms": "ms, one draft from its image file with bfloat16 where it is there, median of 30 (limit: 100)",
    "images_a_second": "in batches of 32 (target: 35)",
    "float32_draft_ms": "the same without bfloat16",
    "float32_images_a_second": "the same without bfloat16",
}


def recipe(
    encoder: str = EncoderConfig.name,
    views: tuple[tuple[float, bool], ...] = ((1.0, False),),
    ensemble: int = 1,
    epochs: int = 5,
    rewards: int = 1,
) -> Stages:
    """On features of a frozen encoder's last two stages. Without retrieval, which would keep captions of Flickr8k."""
    usual = TrainingConfig.photos(encoder)
    first = replace(
        usual,
        encoder=replace(usual.encoder, views=views),
        decoder=replace(usual.decoder, ensemble=ensemble),
        decoding=usual.decoding.quick(),
        epochs=epochs,
    )
    return first, TrainingConfig.rewarded(rewards)


RECIPES: dict[str, Callable[[], Stages]] = {
    "lite0": partial(recipe, "tf_efficientnet_lite0"),
    "lite2": recipe,
    "lite2-views": partial(recipe, views=TWO_VIEWS),
    "lite2-ensemble": partial(recipe, ensemble=2),
    "lite2-views-ensemble": partial(recipe, views=TWO_VIEWS, ensemble=2, epochs=7),
}
KNEE = "lite2"
"""The recipe behind which more pixels, views or decoders cost more time than they gain."""


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints and features.")
@click.option("--recipe", "name", type=click.Choice(list(RECIPES)), default=KNEE, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--device", default="auto", show_default=True, help="Of the training; drafts are timed on the CPU.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, out: Path, name: str, seed: int, device: str, quick: bool) -> None:
    try:
        first, second = (replace(each, seed=seed) for each in RECIPES[name]())
        if quick:
            first, second = replace(first, epochs=1), replace(second, self_critical_epochs=1)
        rows = datasets.read("flickr8k", data, limit=16 if quick else None)
        begun = time.monotonic()
        *_, (_, captioner) = in_stages(rows, out, {"first": first, "second": second}, device)
        seconds = time.monotonic() - begun
        folder = pack(captioner, out / "starter", {"recipe": name, "data": manifest.content_hash(rows)})
        figures, signatures = measured(folder, rows, out / "features")
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    (folder / "MODEL_CARD.md").write_text(card(name, captioner, rows, figures, signatures), encoding="utf-8")
    report("starter", {"train_seconds": seconds, **figures}, MEANINGS)


def pack(captioner: Captioner, folder: Path, extra: Mapping[str, str]) -> Path:
    """The checkpoint in half precision with its checksums, without what is kept of single training images."""
    captioner.retrieval, captioner.decoding = None, replace(captioner.decoding, neighbours=0)
    checkpoint.save(folder, captioner, dict(extra), half=True)
    (folder / checkpoint.WEIGHTS).chmod(0o644)  # safetensors lets its owner alone read it, but others install it
    names = checkpoint.CONFIG, checkpoint.WEIGHTS, checkpoint.VOCABULARY
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / checkpoint.SUMS).write_text("".join(sums), encoding="utf-8")
    return folder


def measured(folder: Path, rows: Sequence[Row], cache: Path) -> tuple[dict[str, float], list[str]]:
    """Scores on the development images, size and speed of the packed checkpoint, and the signatures of the scores."""
    dev = [row for row in rows if row.split == manifest.DEV]
    checkpoint.load(folder, "cpu")  # imports what later loads need no more
    loads = [_seconds(partial(checkpoint.load, folder, "cpu")) for _ in range(LOADS)]
    captioner = checkpoint.load(folder, "cpu")
    captions = [each.text for each in hypotheses(captioner, dev, None, cache)]
    bleu, cider_d = (metric(captions, [row.references for row in dev]) for metric in (metrics.bleu, metrics.cider_d))
    figures = {
        "bleu4": bleu.value,
        "cider_d": cider_d.value,
        "distinct_words": metrics.distinct_words(captions),
        "mean_length": metrics.mean_length(captions),
        "megabytes": (folder / checkpoint.WEIGHTS).stat().st_size / 1e6,
        "load_ms": 1000 * statistics.median(loads),
    }
    images = [row.image for row in dev]
    if has_bfloat16(captioner.device):
        figures |= speed(captioner, images)
    with mock.patch("training.runtime.device.has_bfloat16", return_value=False):
        figures |= {f"float32_{key}": value for key, value in speed(captioner, images).items()}
    decoding = captioner.decoding.signature()
    return figures, [f"{score.signature}|{score.corpus}|{decoding}" for score in (bleu, cider_d)]


def speed(captioner: Captioner, images: Sequence[Path]) -> dict[str, float]:
    """Milliseconds of a single draft from its file, and drafts a second in batches."""
    captioner.caption(images[:WARM])
    singles = [_seconds(partial(captioner.caption, [image])) for image in images[WARM : WARM + DRAFTS]]
    batched = images[:BATCHED]
    return {
        "draft_ms": 1000 * statistics.median(singles),
        "images_a_second": len(batched) / _seconds(partial(captioner.caption, batched)),
    }


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def card(
    name: str, captioner: Captioner, rows: Sequence[Row], figures: Mapping[str, float], signatures: Sequence[str]
) -> str:
    """The model card, as Markdown."""

    def shown(name: str) -> str:
        return f"{figures[name]:.0f}" if name in figures else "not measured"

    encoder, decoder, side = captioner.encoder.config, captioner.decoder.config, captioner.transform.side
    views = ", ".join(f"{round(side * scale)}{' mirrored' if mirrored else ''}" for scale, mirrored in encoder.views)
    images = {split: sum(row.split == split for row in rows) for split in (manifest.TRAIN, manifest.DEV)}
    bleu, cider_d = signatures
    described = machine()
    return f"""# Model card: the starter for photographs

It drafts an English caption of one sentence for a photograph, and is what a project's first retrain starts from.
It knows everyday scenes of people and dogs, mostly out of doors.

| | |
| --- | --- |
| encoder | {encoder.name}, frozen, ImageNet weights, last {encoder.feature_stages} stages, views of {views} pixels |
| decoder | {decoder.architecture}, {decoder.cell}, {decoder.hidden} units, {decoder.ensemble} in the ensemble |
| vocabulary | {len(captioner.vocabulary):,} words |
| weights | {figures["megabytes"]:.1f} MB in half precision; SHA256SUMS is checked when they are loaded |

## Data and terms

It was trained on the {images[manifest.TRAIN]:,} training images of Flickr8k with five captions each (Hodosh, Young
and Hockenmaier, 2013), with human captions and then with rewards for CIDEr-D. The {images[manifest.DEV]:,} development
images chose the epochs. Its files hold no image, no caption and no features of an image, but the words of the captions.

Flickr8k may be used for non-commercial research and education. Use these weights under the same terms; for anything
else train a captioner on data of your own. The encoder's ImageNet weights are under Apache-2.0, as is the code.

## Scores on the development images

| score | value | signature |
| --- | --- | --- |
| BLEU-4 | {figures["bleu4"]:.1f} | `{bleu}` |
| CIDEr-D | {figures["cider_d"]:.1f} | `{cider_d}` |

{figures["distinct_words"]:.0f} distinct words, {figures["mean_length"]:.1f} words a caption. The development images
also chose the epochs, so other photographs like them score a little lower.

| on {described["cores"]} cores, {described["cpu"]} | bfloat16 | float32 |
| --- | --- | --- |
| milliseconds a draft | {shown("draft_ms")} | {shown("float32_draft_ms")} |
| drafts a second in batches | {shown("images_a_second")} | {shown("float32_images_a_second")} |
| milliseconds to load | {shown("load_ms")} | |

## What it cannot do

It describes what it does not know as something that it knows: products, documents, maps, scans, indoor scenes without
people and most animals but dogs come out wrong. It reads no text, names nobody, and counts badly beyond three. It says
man, woman, boy or girl by looks alone, as its annotators did, and is wrong about that too. It writes English only.

## Make it again

    python -m benchmarks.starter --data flickr8k --recipe {name} --out DIR

DIR/starter then holds what this folder holds.
"""


if __name__ == "__main__":
    main()
