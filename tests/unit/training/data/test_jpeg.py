from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data import jpeg, transforms
from training.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def encoded(mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def header(content: bytes) -> jpeg.Header:
    found = jpeg.header(io.BytesIO(content))
    assert found is not None
    return found


def resized(content: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its header, and the pixels that it had."""
    at = next(at for marker in (b"\xff\xc0", b"\xff\xc2") if (at := content.find(marker)) > 0) + 5
    return content[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[at + 4 :]


def test_the_header_of_a_baseline_jpeg() -> None:
    found = header(encoded(subsampling=2))
    assert (found.frame, found.bits, found.width, found.height) == (jpeg.BASELINE, 8, 64, 48)
    assert found.sampling == ((2, 2), (1, 1), (1, 1))
    assert found.scanned == 3
    assert found.transform is None
    assert found.coefficient_bytes == 0


@pytest.mark.parametrize(
    ("mode", "options", "samples"),
    [("RGB", {"subsampling": 2}, 1.5), ("RGB", {"subsampling": 0}, 3), ("CMYK", {}, 4), ("L", {}, 1)],
)
def test_a_progressive_jpeg_keeps_two_bytes_for_each_sample(mode: str, options: dict[str, Any], samples: float) -> None:
    assert header(encoded(mode, progressive=True, **options)).coefficient_bytes == 2 * 64 * 48 * samples


def test_a_jpeg_whose_components_come_in_scans_of_their_own_keeps_them_too() -> None:
    content = encoded(subsampling=0)
    at = content.index(b"\xff\xda")
    apart = content[:at] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + content[at + 14 :]
    assert header(apart).coefficient_bytes == 2 * 64 * 48 * 3


def test_what_is_no_jpeg_has_no_header() -> None:
    content = encoded()
    cut = [content[:length] for length in range(content.index(b"\xff\xda") + 12)]
    for wrong in [*cut, b"\x89PNG\r\n\x1a\n", content[:2] + b"\0" + content[3:], b"\xff\xd8" + b"\xff\xd0" * 20_000]:
        assert jpeg.header(io.BytesIO(wrong)) is None


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("between", [b"", b"\0"])
def test_a_progressive_jpeg_that_takes_too_much_memory_is_refused(tmp_path: Path, between: bytes) -> None:
    path, content = tmp_path / "large.jpg", resized(encoded(progressive=True, subsampling=0), 12_000, 10_000)
    at = content.index(b"\xff\xda")
    path.write_bytes(content[:at] + between + content[at:])  # a byte that decoders pass over hides nothing
    with pytest.raises(DataError, match=r"large\.jpg is a progressive .*JPEG of 12000x10000 pixels.* save it as a"):
        transforms.load(path, 32)
