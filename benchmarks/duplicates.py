"""Near duplicates: how many get the correction of the photo they were made of, and how many other photos get one.

    python -m benchmarks.duplicates --data flickr8k [--subject winter] [--quick]

Photos of one subject are corrected; copies of them that were cropped, mirrored, made darker or lighter, compressed,
shrunk or taken a moment later are drafted, and so are other photos of the subject, all with the encoder of the starter.
"""

from __future__ import annotations

import io
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.report import report
from training.captioner.captioner import BATCH, Captioner, pooled
from training.config import EncoderConfig, TrainingConfig
from training.data import datasets, manifest, transforms
from training.data.manifest import Row
from training.decoding.reuse import Correction, CorrectionMemory
from training.errors import DataError
from training.networks import weights
from training.vocabulary import Style, Vocabulary

SUBJECTS = {
    "winter": re.compile(r"\b(snow\w*|ski\w*|sled\w*|ice|icy|hockey)\b", re.IGNORECASE),
    "water": re.compile(r"\b(water|pool|swim\w*|ocean|lake|river|surf\w*|beach)\b", re.IGNORECASE),
}
CORRECTED, OTHERS, COPIED, MEASURED = 350, 250, 300, 96
"""Corrected photos, other photos of the subject, corrected ones that are copied, and photos that the channels are
measured on, as a training does."""

MEANINGS = {
    "duplicates_reused_share": "near duplicates drafted with their own photo's correction (target: 0.95)",
    "different_reused_share": "other photos of the subject drafted with a correction (target: at most 0.02)",
    "match_milliseconds": "ms to find a correction among them, the median",
}


def _cropped(image: Image.Image, share: float, chance: random.Random) -> Image.Image:
    width, height = (round(side * (1 - share)) for side in image.size)
    left, top = chance.randint(0, image.width - width), chance.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def _next_frame(image: Image.Image, chance: random.Random) -> Image.Image:
    """As of a burst: moved and turned a little, a little lighter."""
    turned = _cropped(image, 0.05, chance).rotate(2, resample=Image.Resampling.BICUBIC)
    return _compressed(ImageEnhance.Brightness(turned).enhance(1.1), 80)


CHANGES: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "cropped_by_10": lambda image, chance: _cropped(image, 0.1, chance),
    "cropped_by_20": lambda image, chance: _cropped(image, 0.2, chance),
    "mirrored": lambda image, chance: ImageOps.mirror(image),
    "darker": lambda image, chance: ImageEnhance.Brightness(image).enhance(0.7),
    "lighter": lambda image, chance: ImageEnhance.Brightness(image).enhance(1.3),
    "jpeg_30": lambda image, chance: _compressed(image, 30),
    "half_the_size": lambda image, chance: image.resize((image.width // 2, image.height // 2)),
    "next_frame": _next_frame,
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--subject", type=click.Choice(list(SUBJECTS)), default="winter", show_default=True)
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, subject: str, quick: bool) -> None:
    try:
        figures = measure(datasets.read("flickr8k", data, split=manifest.TRAIN), subject, 30 if quick else 1)
    except DataError as error:
        raise click.ClickException(str(error)) from error
    report("duplicates", figures, MEANINGS)


def measure(rows: Sequence[Row], subject: str, fraction: int = 1) -> dict[str, float]:
    """The figures on these photos, or on one in `fraction` of them."""
    chance = random.Random(1)
    about = [row for row in rows if any(SUBJECTS[subject].search(text) for text in row.references)]
    chance.shuffle(about)
    known = {row.sha256 for row in about}
    unlike = chance.sample([row for row in rows if row.sha256 not in known], MEASURED // fraction)
    corrected, others = about[: CORRECTED // fraction], about[CORRECTED : CORRECTED + OTHERS // fraction]
    captioner = _captioner([row.image for row in unlike])
    memory = CorrectionMemory(captioner.feature_space)
    features = dict(zip((row.sha256 for row in corrected), _features(captioner, corrected), strict=True))
    for number, row in enumerate(corrected):
        memory.put(number, Correction(row.sha256, row.references[0], number, at=number))
    memory.add_features(features)
    seconds: list[float] = []

    def found(feature: bytes) -> Correction | None:
        began = time.perf_counter()
        match = memory.match("new", feature)
        seconds.append(time.perf_counter() - began)
        return match

    figures: dict[str, float] = {}
    copied = corrected[: COPIED // fraction]
    for name, change in CHANGES.items():
        matches = [found(feature) for feature in _features(captioner, copied, change)]
        right = [match is not None and match.sha256 == row.sha256 for match, row in zip(matches, copied, strict=True)]
        figures[name] = float(np.mean(right))
    different = float(np.mean([found(feature) is not None for feature in _features(captioner, others)]))
    shares = {"duplicates_reused_share": float(np.mean(list(figures.values()))), "different_reused_share": different}
    return {**shares, "match_milliseconds": 1000 * float(np.median(seconds)), **figures}


def _captioner(photos: Sequence[Path]) -> Captioner:
    """A captioner on the starter's encoder that has learned nothing but the spread of its channels, on these photos."""
    config = TrainingConfig.photos()
    encoder = replace(config.encoder, views=EncoderConfig.views)
    style, vocabulary = Style(capitalise=False, full_stop=False), Vocabulary.build(["a photo"], 1)
    captioner = Captioner(encoder, config.decoder, config.transform, config.decoding, vocabulary, style).eval()
    weights.load(captioner.encoder)
    pixels = [each for each in transforms.load_all(photos, captioner.side) if isinstance(each, np.ndarray)]
    with torch.inference_mode():
        for decoder in captioner.decoder.decoders:
            decoder.standardisation.measure([captioner.encode(np.stack(pixels)).float()])
    return captioner


def _features(
    captioner: Captioner,
    rows: Sequence[Row],
    change: Callable[[Image.Image, random.Random], Image.Image] | None = None,
) -> Iterator[bytes]:
    """The pooled feature of each photo, after a change."""
    with TemporaryDirectory(prefix="captioner-duplicates-") as folder:
        for first in range(0, len(rows), BATCH):
            pixels = []
            for row in rows[first : first + BATCH]:
                path = row.image
                if change:
                    path = Path(folder) / "changed.png"
                    with Image.open(row.image) as image:
                        change(image.convert("RGB"), random.Random(row.image.name)).save(path)
                pixels.append(transforms.load(path, captioner.side))
            with torch.inference_mode():
                yield from map(pooled, captioner.encode(np.stack(pixels)))


if __name__ == "__main__":
    main()
