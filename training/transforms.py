"""Image files to pixels and pixels to the encoder's input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from training.config import TransformConfig
from training.errors import DataError

MAX_PIXELS = 200_000_000
CHUNK = 64  # images decoded together


def load(path: Path, side: int) -> np.ndarray:
    """The image as (side, side, 3) bytes: upright, RGB, squashed so that nothing of it is cut away.

    Large JPEGs are decoded at a fraction of their size. Raises DataError when the file is no readable image.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"The image {path} has {image.width}x{image.height} pixels, more than can be read.")
            image.draft("RGB", (side * 2, side * 2))
            upright = ImageOps.exif_transpose(image)
            pixels = _opaque(upright).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"The image {path} cannot be read: {error}.") from error
    return np.asarray(pixels, dtype=np.uint8)


def load_all(paths: Sequence[Path], side: int) -> Iterator[np.ndarray | DataError]:
    """Each image in order, decoded by as many threads as there are cores; an unreadable one is its DataError.

    At most two chunks are decoded ahead of the reader, so that any number of images fits in memory.
    """
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        ahead = None
        for chunk in chunks:
            submitted = threads.map(lambda path: _load_or_error(path, side), chunk)
            if ahead is not None:
                yield from ahead
            ahead = submitted
        yield from ahead or ()


def normalise(pixels: torch.Tensor, config: TransformConfig) -> torch.Tensor:
    """Bytes (B, S, S, 3) to the encoder's input: floats (B, 3, S, S) with `config.mean` and `config.std` taken out."""
    mean = torch.tensor(config.mean, device=pixels.device) * 255.0
    std = torch.tensor(config.std, device=pixels.device) * 255.0
    images = (pixels.float() - mean) / std  # (B, S, S, 3)
    return images.permute(0, 3, 1, 2)  # (B, 3, S, S), channels last in memory


def shift(images: torch.Tensor, pixels: int) -> torch.Tensor:
    """Each image (B, 3, S, S) moved by up to `pixels` in both directions, its edge repeated: harmless variation."""
    side = images.shape[-1]
    padded = torch.nn.functional.pad(images, (pixels,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * pixels + 1, (2, len(images))).tolist()
    moved = [image[:, y : y + side, x : x + side] for image, y, x in zip(padded, down, right, strict=True)]
    return torch.stack(moved).contiguous(memory_format=torch.channels_last)  # (B, 3, S, S)


def _load_or_error(path: Path, side: int) -> np.ndarray | DataError:
    try:
        return load(path, side)
    except DataError as error:
        return error


def _opaque(image: Image.Image) -> Image.Image:
    """Transparent images on white, as a browser shows them."""
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        spread = float(values.max() - values.min()) or 1.0
        return Image.fromarray(((values - values.min()) * (255.0 / spread)).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
