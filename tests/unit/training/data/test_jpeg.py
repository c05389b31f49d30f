from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

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
    path, content = tmp_path / "large.jpg", resized(encoded(progressive=True, subsampling=0), 14_000, 10_000)
    at = content.index(b"\xff\xda")
    path.write_bytes(content[:at] + between + content[at:])  # a byte that decoders pass over hides nothing
    with pytest.raises(DataError, match=r"large\.jpg is a progressive .*JPEG of 14000x10000 pixels.* save it as a"):
        transforms.load(path, 32)


CPU = torch.device("cpu")


def photo(size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Soft shapes, as photographs have, with a corner of its own."""
    image = Image.fromarray(NOISE[:6, :8]).resize(size, Image.Resampling.BICUBIC)
    image.paste((255, 0, 0), (0, 0, size[0] // 4, size[1] // 8))
    return image


def written(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def difference(content: bytes, side: int, tmp_path: Path) -> float:
    """Mean absolute difference of what torchvision and what Pillow makes of it, in levels of 255."""
    [pixels] = jpeg.decode_jpegs([content], side, CPU)
    assert pixels is not None
    assert (pixels.shape, pixels.dtype) == ((side, side, 3), torch.uint8)
    (tmp_path / "a.jpg").write_bytes(content)
    return float(np.abs(pixels.numpy().astype(float) - transforms.load(tmp_path / "a.jpg", side)).mean())


@pytest.mark.parametrize("orientation", range(10))
def test_upright_as_pillow_makes_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert difference(written(photo(), exif=exif), 64, tmp_path) < 0.6


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (1500, 1000), (65, 1000)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_resized_as_pillow_does_it(tmp_path: Path, size: tuple[int, int], subsampling: int) -> None:
    assert difference(written(photo(size), subsampling=subsampling), 64, tmp_path) < 0.8


def test_what_is_no_plain_jpeg_is_left_to_pillow(tmp_path: Path) -> None:
    plain = written(photo())
    at = plain.index(b"\xff\xda")
    png = io.BytesIO()
    photo().save(png, "PNG")
    damaged_exif = b"\xff\xe1\x00\x10Exif\0\0MM\0\0\xff\xff\xff\xff"
    others = [
        written(photo(), progressive=True),
        written(photo().convert("L")),
        written(photo().convert("CMYK")),
        written(photo(), keep_rgb=True),
        plain[: len(plain) // 2],
        plain[:at],
        b"",
        b"no image",
        png.getvalue(),
    ]
    found = jpeg.decode_jpegs([*others, plain, plain[:2] + damaged_exif + plain[2:]], 32, CPU)
    assert [each is None for each in found[:-1]] == [*[True] * len(others), False]


def test_an_image_that_the_device_refuses_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, plain = jpeg._decoded, written(photo())
    calls: list[int] = []

    def refusing(contents: list[bytes], device: torch.device) -> list[torch.Tensor]:
        calls.append(len(contents))
        if len(calls) == 2:
            raise RuntimeError("nvjpeg: out of memory")
        return decoded(contents, device)

    monkeypatch.setattr(jpeg, "_decoded", refusing)
    monkeypatch.setattr(jpeg, "BATCH_PIXELS", 2 * 400 * 300)
    found = jpeg.decode_jpegs([plain] * 5, 32, CPU)
    assert calls == [2, 2, 1]
    assert [each is None for each in found] == [False, False, True, True, False]
