"""Images as people look at them: whole, upright, small."""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags, Image

from training.data import transforms

LYING = frozenset({5, 6, 7, 8})
"""EXIF orientations of images stored on their side."""


def thumbnail(path: Path, longest: int) -> Image.Image:
    """The image in RGB, `longest` pixels on its longer side. Raises DataError when the file is no readable image."""
    pixels = transforms.load(path, longest)  # a square, which the true proportions are given back to
    with Image.open(path) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation) in LYING:
            width, height = height, width
    scale = longest / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
