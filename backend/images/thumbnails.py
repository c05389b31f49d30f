"""Small pictures of cached images, for pages. Nothing is fetched."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path

from PIL import Image, ImageOps

from backend.images.cache import FORMATS

SIDES = (480, 360)
"""Most pixels across and down: enough for a screen with two to a point."""
_ALONE = threading.Lock()
"""A page asks for a dozen at once, and an image of 50 million pixels takes 200 MB to decode, a JPEG up to 800 MB."""
_HASH = re.compile("[0-9a-f]{64}")


def here(data_dir: Path, sha256: str | None) -> Path | None:
    """The file of the image with this content where the cache has it; its folder is not listed, for it may be large."""
    if sha256 is None or not _HASH.fullmatch(sha256):
        return None
    folder = data_dir / "images" / sha256[:2]
    return next((path for kind in FORMATS.values() if (path := folder / f"{sha256}.{kind}").is_file()), None)


def thumbnail(path: Path) -> bytes | None:
    """The image as a small JPEG; None where it cannot be read. Threads wait for one another."""
    try:
        with _ALONE, Image.open(path, formats=tuple(FORMATS)) as image:
            image.draft("RGB", SIDES)
            image.thumbnail(SIDES)
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except Exception:  # PIL's plugins raise nearly anything on damaged files
        return None
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
