"""Reads image files into arrays of pixels, and turns these into the encoder's input."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image

from training.data import jpeg
from training.errors import DataError

Picture = Path | bytes | Image.Image
"""An image file, the content of one, or an image that Pillow has opened."""

JPEGS = frozenset({"JPEG", "MPO"})  # MPO: a JPEG with further ones behind it
MAX_PIXELS = 50_000_000
MAX_JPEG_PIXELS = 150_000_000  # a JPEG can be decoded at an eighth of its side
MAX_COEFFICIENT_BYTES = 800_000_000
"""A progressive JPEG's coefficients are in memory, all of them, whatever the scale: 2 bytes for each sample. So one of
100 million pixels can be read, alone, with any sampling."""
DECODING_BYTES = 400_000_000
"""Images take at most so much memory when they are decoded at the same time; one that takes more is decoded alone."""
_PIXEL_BYTES = {"WEBP": 16}
"""Measured memory of a pixel that is being decoded, where it is not the 8 bytes that suffice for other formats."""
THINNED = 8
"""An image is subsampled to at most this many times the wanted side before it is converted, which saves memory."""

MOST_DIFFERENCE = 2.0
"""Levels of 255 that a device's pixels may differ from Pillow's in the mean; it resizes what was not scaled before."""
SAMPLE = (2000, 1500)
"""Size of the JPEG on which a device is tried. Smaller ones take Pillow a millisecond or two."""

CHUNK = 64  # images decoded together
LYING = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


def load(picture: Picture, side: int) -> np.ndarray:
    """The image as (side, side, 3) bytes: upright, RGB, resized to a square without cropping.

    Large JPEGs are decoded at a fraction of their size. Threads wait where their images would take too much memory
    together. Raises DataError when it is no readable image.
    """
    name = _named(picture)
    try:
        with _opened(picture) as image:
            pixels = image.width * image.height
            if pixels > (MAX_JPEG_PIXELS if image.format in JPEGS else MAX_PIXELS):
                raise DataError(f"{name} has {image.width}x{image.height} pixels, more than can be read.")
            with _decoding.taking(_decoding_bytes(image, picture)):
                small = _shrunk(image, side)
                # ImageOps.exif_transpose would rewrite all of the EXIF, and fails on tags of a wrong type.
                turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DataError(f"{name} cannot be read: {error}.") from error
    return np.asarray(small if turn is None else small.transpose(turn), dtype=np.uint8)


def read(path: Path, side: int, device: torch.device) -> np.ndarray:
    """As `load`; a CUDA device decodes large JPEGs where it does so faster than all cores together."""
    if device.type == "cuda" and _decodes_faster(device):
        with suppress(OSError):  # `load` tells of it
            content = path.read_bytes()
            header = jpeg.header(io.BytesIO(content))
            if header and header.width * header.height >= SAMPLE[0] * SAMPLE[1]:
                [pixels] = jpeg.decode_jpegs([content], side, device)
                if pixels is not None:
                    return pixels.cpu().numpy()
    return load(path, side)


def thumbnail(path: Path, longest: int) -> Image.Image:
    """The image in RGB, uncropped and upright, its longer side `longest` pixels long. Raises DataError as `load`."""
    pixels = load(path, longest)  # a square; the proportions are restored below
    with Image.open(path) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation) in LYING:
            width, height = height, width
    scale = longest / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def load_all(pictures: Sequence[Picture], side: int) -> Iterator[np.ndarray | DataError]:
    """The images in order, decoded by one thread a core; an unreadable image is replaced by its DataError.

    At most two chunks are decoded ahead, so that memory use does not depend on the number of images.
    """
    chunks = [pictures[first : first + CHUNK] for first in range(0, len(pictures), CHUNK)]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        ahead = None
        for chunk in chunks:
            submitted = threads.map(lambda picture: _load_or_error(picture, side), chunk)
            if ahead is not None:
                yield from ahead
            ahead = submitted
        yield from ahead or ()


def normalise(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Bytes (B, S, S, 3) to the encoder's input: floats (B, 3, S, S) standardised by each colour's `mean` and `std`."""
    means = torch.tensor(mean, device=pixels.device) * 255.0
    images = (pixels.float() - means) / (torch.tensor(std, device=pixels.device) * 255.0)  # (B, S, S, 3)
    return images.permute(0, 3, 1, 2)  # (B, 3, S, S), channels last in memory


def shift(images: torch.Tensor, pixels: int) -> torch.Tensor:
    """Data augmentation: each image (B, 3, S, S) moved by up to `pixels` in x and y, its edge pixels replicated."""
    side = images.shape[-1]
    padded = torch.nn.functional.pad(images, (pixels,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * pixels + 1, (2, len(images))).tolist()
    moved = [image[:, y : y + side, x : x + side] for image, y, x in zip(padded, down, right, strict=True)]
    return torch.stack(moved).contiguous(memory_format=torch.channels_last)  # (B, 3, S, S)


def _load_or_error(picture: Picture, side: int) -> np.ndarray | DataError:
    try:
        return load(picture, side)
    except DataError as error:
        return error


def _named(picture: Picture) -> str:
    """The image in the sentence of an error, where Pillow names only the objects of its own."""
    if isinstance(picture, Path):
        return f"The image {picture}"
    if isinstance(picture, bytes):
        return f"The image of {len(picture):,} bytes"
    return f"The Pillow image of {picture.width}x{picture.height} pixels"


def _opened(picture: Picture) -> AbstractContextManager[Image.Image]:
    """The image to read from; one that Pillow has opened already stays open and as it was."""
    if isinstance(picture, Image.Image):
        with _loading:  # the same may be given several times, and Pillow reads a file for one thread only
            picture.load()
        return nullcontext(picture)
    return Image.open(picture if isinstance(picture, Path) else io.BytesIO(picture))


class _Budget:
    """So many bytes for all threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taking(self, size: int) -> Iterator[None]:
        """Wait until they are free, or until nothing else is taken."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._limit)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


_decoding = _Budget(DECODING_BYTES)
_loading = threading.Lock()
_trying = threading.Lock()
_faster: dict[torch.device, bool] = {}


def _decodes_faster(device: torch.device) -> bool:
    """Whether the device decodes a sample as Pillow does, and faster than as many Pillows as there are cores.

    It is tried once: one call decodes one image, and calls wait for each other.
    """
    with _trying:
        if device not in _faster:
            _faster[device] = _tried(device)
        return _faster[device]


def _tried(device: torch.device) -> bool:
    side, columns, rows = 320, np.arange(SAMPLE[0]), np.arange(SAMPLE[1])[:, None]
    waves = [np.sin(rows / step) + np.cos(columns / (step + 5)) for step in (9, 40, 120)]
    sample = Image.fromarray((127 + 60 * np.stack(waves, axis=-1)).clip(0, 255).astype(np.uint8))
    with TemporaryDirectory(prefix="captioner-") as folder:
        path = Path(folder) / "sample.jpg"
        sample.save(path, quality=90)
        for _ in range(2):  # the first loads and warms up
            began = time.perf_counter()
            [pixels] = jpeg.decode_jpegs([path.read_bytes()], side, device)
            if pixels is None:
                return False
            decoded = pixels.cpu().numpy().astype(np.int16)
            there = time.perf_counter() - began
            began = time.perf_counter()
            loaded = load(path, side).astype(np.int16)
            here = time.perf_counter() - began
    is_same = np.abs(decoded - loaded).mean() < MOST_DIFFERENCE
    return bool(is_same) and there * len(os.sched_getaffinity(0)) < here


def _decoding_bytes(image: Image.Image, picture: Picture) -> int:
    """What decoding it takes, about. Raises DataError where that is too much."""
    pixels = image.width * image.height
    if image.format not in JPEGS or isinstance(picture, Image.Image):
        return pixels * _PIXEL_BYTES.get(image.format or "", 8)
    with picture.open("rb") if isinstance(picture, Path) else io.BytesIO(picture) as file:
        header = jpeg.header(file)
    size = header.coefficient_bytes if header else 8 * pixels  # the most there is: of four colours
    if size > MAX_COEFFICIENT_BYTES:
        raise DataError(
            f"{_named(picture)} is a progressive or damaged JPEG of {image.width}x{image.height} pixels, which takes "
            "too much memory: save it as a baseline JPEG."
        )
    return size


_TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that makes an image upright, by its EXIF orientation."""


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    """The image in RGB, `side` x `side` pixels."""
    image.draft("RGB", (side * 2, side * 2))  # at `side` it would take 0.8 of the time, but show in the pixels
    most = THINNED * side
    if image.width > most or image.height > most:
        image = image.resize((min(image.width, most), min(image.height, most)), Image.Resampling.NEAREST)
    return _opaque(image).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)


def _opaque(image: Image.Image) -> Image.Image:
    """The image in RGB: transparent parts on white, as a browser shows them, and channels reduced to 8 bits."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) / 257.0).round().astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:  # without a fixed range: the darkest becomes 0, the lightest 255
        values = np.asarray(image, dtype=np.float64)
        known = np.isfinite(values)
        low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, 0.0)
        grey = (np.where(known, values, low) - low) * (255.0 / ((high - low) or 1.0))
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
