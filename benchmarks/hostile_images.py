"""Mutated image files of every format that is read, and what decodes them in the backend."""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from backend.domain.errors import ImageError
from backend.images.cache import extension
from backend.images.thumbnails import thumbnail
from training.errors import DataError

SIDE = 64
NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**32 - 1)
"""Sizes and offsets that decoders stumble over."""


@dataclass
class Decoded:
    """What became of mutated files."""

    files: int = 0
    read: int = 0
    refused: int = 0
    slowest_seconds: float = 0.0
    by_format: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@cache
def whole() -> dict[str, bytes]:
    """By name whole images of every format, in the forms of it that are decoded by code of their own."""
    rng = random.Random(1)
    colour = Image.frombytes("RGB", (48, 40), rng.randbytes(48 * 40 * 3)).resize((96, 80))
    grey, palette, alpha = colour.convert("L"), colour.convert("P"), colour.convert("RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6

    def several(**options: Any) -> dict[str, Any]:  # an image that was saved keeps settings of that format
        return {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)], **options}

    forms: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (colour, "JPEG", {"exif": exif}),
        "jpeg progressive": (colour, "JPEG", {"progressive": True, "subsampling": 2}),
        "jpeg grey": (grey, "JPEG", {}),
        "jpeg cmyk": (colour.convert("CMYK"), "JPEG", {}),
        "mpo": (colour, "MPO", several()),
        "png": (colour, "PNG", {"exif": exif}),
        "png palette": (palette, "PNG", {"transparency": 3}),
        "png alpha": (alpha, "PNG", {}),
        "png 16 bit": (grey.convert("I;16"), "PNG", {}),
        "png animated": (colour, "PNG", several()),
        "gif": (palette, "GIF", {}),
        "gif animated": (colour, "GIF", several(duration=20)),
        "webp": (colour, "WEBP", {"exif": exif}),
        "webp lossless": (alpha, "WEBP", {"lossless": True}),
        "webp animated": (colour, "WEBP", several()),
        "bmp": (colour, "BMP", {}),
        "bmp palette": (palette, "BMP", {}),
        "tiff": (colour, "TIFF", {}),
        "tiff several": (colour, "TIFF", several()),
        **{f"tiff {name}": (colour, "TIFF", {"compression": name}) for name in ("tiff_lzw", "jpeg", "tiff_deflate")},
        "tiff packbits": (colour, "TIFF", {"compression": "packbits"}),
        "tiff fax": (grey.convert("1"), "TIFF", {"compression": "group4"}),
    }
    found = {}
    for name, (image, kind, options) in forms.items():
        buffer = io.BytesIO()
        image.copy().save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    return found


def mutated(number: int, seed: int, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """So many damaged files, each with the name of its form; every form in turn, from the `first` on."""
    rng = random.Random(seed)
    forms = list(whole().items())
    for index in range(first, first + number):
        name, content = forms[index % len(forms)]
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            _mutate(changed, forms, rng)
        yield name, bytes(changed)


def _mutate(content: bytearray, forms: list[tuple[str, bytes]], rng: random.Random) -> None:
    # Headers decide most, so half of the places are within the first 64 bytes.
    place = rng.randrange(max(1, min(len(content), 64) if rng.random() < 0.5 else len(content)))
    match rng.randrange(7):
        case 0:
            content[place : place + 1] = bytes([rng.randrange(256)])
        case 1:
            del content[place:]
        case 2:
            del content[place : place + rng.randrange(1, 32)]
        case 3:
            content[place:place] = rng.randbytes(rng.randrange(1, 32))
        case 4:
            number, width = rng.choice(NUMBERS), rng.choice((2, 4))
            content[place : place + width] = (number % 256**width).to_bytes(width, rng.choice(("big", "little")))
        case 5:
            content[place:] = rng.choice(forms)[1][place:]
        case _:
            content += content[place : place + rng.randrange(1, 4096)]


def decode(number: int, seed: int) -> Decoded:
    """Give so many mutated files to all that decodes images, as `/predict`, a retrain and a page do."""
    from training.data.transforms import load  # imports torch

    result = Decoded()
    with TemporaryDirectory(prefix="captioner-hostile-") as folder:

        def kept(name: str, content: bytes) -> None:
            path = Path(folder) / f"image.{extension(content, name)}"
            path.write_bytes(content)
            load(path, SIDE)
            result.read += 1

        def shown(name: str, content: bytes) -> None:
            path = Path(folder) / "thumbnail"
            path.write_bytes(content)
            thumbnail(path)

        def checked(name: str, content: bytes) -> None:
            extension(content, name, whole=True)

        for name, content in mutated(number, seed):
            begun = time.perf_counter()
            for step in (kept, shown, checked):
                try:
                    step(name, content)
                except (ImageError, DataError):
                    result.refused += step is kept
                except Exception as error:
                    result.faults.append(f"{name}: {error!r}"[:200])
            result.files += 1
            result.by_format[name.partition(" ")[0]] += 1
            result.slowest_seconds = max(result.slowest_seconds, time.perf_counter() - begun)
    return result
