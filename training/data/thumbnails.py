"""Small copies of images for display: uncropped and upright."""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags, Image

from training.data import transforms

LYING = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


def thumbnail(path: Path, longest: int) -> Image.Image:
    """The image in RGB, its longer side `longest` pixels long. Raises DataError when the file is no readable image."""
    pixels = transforms.load(path, longest)  # a square; the proportions are restored below
    with Image.open(path) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation) in LYING:
            width, height = height, width
    scale = longest / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
