"""Photos of twelve million pixels: read at the scale that is needed, against decoding all of them and then resizing.

    python -m benchmarks.decoding --data flickr8k [--quick]

Flickr8k's dev photos are enlarged to 4000x3000 and read from JPEGs in one thread, for the starter, which captions them
read either way. Enlarged photos are smooth and their files small: with grain they are as large as those of phones.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from PIL import Image

from benchmarks.report import report
from training.captioner import checkpoint
from training.captioner.bundled import starter
from training.captioner.captioner import Captioner
from training.data import datasets, manifest, transforms
from training.data.manifest import Row
from training.errors import TrainingError
from training.metrics.bleu_score import bleu

SIZE, QUALITY = (4000, 3000), 90
GRAIN = 6.0
"""Standard deviation of the grain: with it a file has 3 to 4 MB, without it 0.7."""
TIMED, ROUNDS, CAPTIONED = 10, 5, 200

MEANINGS = {
    "scaled_decode_speedup": "times as fast as a full decode (target: 3)",
    "grain_decode_speedup": "the same on photos with grain",
    "scaled_photos_per_second": "photos a second, read at the scale that is needed",
    "full_photos_per_second": "photos a second, decoded whole and then resized",
    "grain_scaled_photos_per_second": "photos with grain a second, read at the scale that is needed",
    "grain_full_photos_per_second": "photos with grain a second, decoded whole and then resized",
    "bleu4_scaled": "BLEU-4 of the starter on photos read at the scale that is needed",
    "bleu4_full": "BLEU-4 of the starter on photos decoded whole",
    "same_captions": "share of photos whose caption is the same either way",
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, quick: bool) -> None:
    torch.set_num_threads(1)
    timed, rounds, captioned = (1, 1, 2) if quick else (TIMED, ROUNDS, CAPTIONED)
    try:
        rows = datasets.read("flickr8k", data, split=manifest.DEV, limit=captioned)
        captioner = checkpoint.load(starter(), "cpu")
        with TemporaryDirectory(prefix="captioner-decoding-") as name:
            folder = Path(name)
            figures: dict[str, float] = {}
            for prefix, grain in [("", 0.0), ("grain_", GRAIN)]:
                photos = [enlarged(row.image, folder / f"{prefix}{row.image.name}", grain) for row in rows[:timed]]
                figures |= {f"{prefix}{key}": value for key, value in speeds(photos, captioner.side, rounds).items()}
            figures["scaled_decode_speedup"] = figures.pop("decode_speedup")
            report("decoding", figures | quality(captioner, rows, folder), MEANINGS)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error


def enlarged(photo: Path, path: Path, grain: float = 0.0) -> Path:
    """The photo at the size of a phone's, as a JPEG at `path`."""
    with Image.open(photo) as image:
        large = image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
    if grain:
        noise = np.random.default_rng(1).normal(0, grain, (SIZE[1], SIZE[0], 1)).astype(np.float32)
        large = Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8))
    large.save(path, quality=QUALITY)
    return path


def decoded_whole(path: Path, side: int) -> np.ndarray:
    """What `transforms.load` would give if it decoded every pixel."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def speeds(photos: Sequence[Path], side: int, rounds: int) -> dict[str, float]:
    """Photos a second of both ways, and the ratio pair by pair; medians."""
    scaled, full = [], []
    for _ in range(rounds):
        for photo in photos:
            scaled.append(_seconds(transforms.load, photo, side))
            full.append(_seconds(decoded_whole, photo, side))
    return {
        "decode_speedup": statistics.median(slow / fast for slow, fast in zip(full, scaled, strict=True)),
        "scaled_photos_per_second": 1 / statistics.median(scaled),
        "full_photos_per_second": 1 / statistics.median(full),
    }


def _seconds(read: Callable[[Path, int], np.ndarray], photo: Path, side: int) -> float:
    began = time.perf_counter()
    read(photo, side)
    return time.perf_counter() - began


def quality(captioner: Captioner, rows: Sequence[Row], folder: Path) -> dict[str, float]:
    """The captioner's BLEU-4 on the rows' photos, enlarged and read both ways."""
    captions: dict[str, list[str]] = {"scaled": [], "full": []}
    for row in rows:
        photo = enlarged(row.image, folder / "photo.jpg")
        pixels = np.stack([transforms.load(photo, captioner.side), decoded_whole(photo, captioner.side)])
        with torch.inference_mode():
            scaled, full = captioner.generate(captioner.encode(pixels))
        captions["scaled"].append(scaled.text)
        captions["full"].append(full.text)
    references = [row.references for row in rows]
    same = np.mean([scaled == full for scaled, full in zip(captions["scaled"], captions["full"], strict=True)])
    scores = {f"bleu4_{way}": bleu(texts, references).value for way, texts in captions.items()}
    return scores | {"same_captions": float(same)}


if __name__ == "__main__":
    main()
