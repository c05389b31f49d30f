"""Unusual image files: rare modes, wrong tags, and extreme sizes."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data import transforms
from training.errors import DataError

SIDE = 32


@pytest.fixture
def two_halves() -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (64, 48), "blue")
    image.paste("red", (0, 0, 32, 48))
    return image


def written(path: Path, image: Image.Image, kind: str, **options: Any) -> Path:
    image.save(path, kind, **options)
    return path


def is_red(pixel: np.ndarray) -> bool:
    return bool(pixel[0] > 200 and pixel[2] < 60)


def exif(*tags: tuple[int, int, bytes]) -> bytes:
    """EXIF of tag, type and four bytes of value each, whatever they should be."""
    entries = b"".join(struct.pack("<HHI", tag, kind, 1) + value for tag, kind, value in sorted(tags))
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright(tmp_path: Path, two_halves: Image.Image, orientation: int) -> None:
    from PIL import ImageOps

    value = struct.pack("<HH", orientation, 0)
    path = written(tmp_path / "a.jpg", two_halves, "JPEG", exif=exif((0x112, 3, value)), quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert np.abs(transforms.load(path, SIDE).astype(int) - expected).mean() < 3


@pytest.mark.parametrize("tag", [0x100, 0x10F, 0x11A, 0x128, 0xA005])
@pytest.mark.parametrize("kind", [1, 2, 7, 11])
def test_tags_of_a_wrong_type_do_not_matter(tmp_path: Path, two_halves: Image.Image, tag: int, kind: int) -> None:
    tags = exif((0x112, 3, struct.pack("<HH", 3, 0)), (tag, kind, b"ab\0\0"))
    pixels = transforms.load(written(tmp_path / "a.jpg", two_halves, "JPEG", exif=tags), SIDE)
    assert is_red(pixels[16, 30]), "turned upside down by the one tag that counts"


def test_an_orientation_that_is_no_number_is_none(tmp_path: Path, two_halves: Image.Image) -> None:
    path = written(tmp_path / "a.jpg", two_halves, "JPEG", exif=exif((0x112, 2, b"ab\0\0")))
    assert is_red(transforms.load(path, SIDE)[16, 1])


def test_a_photo_of_several_jpegs_is_its_first(tmp_path: Path, two_halves: Image.Image) -> None:
    others = [Image.new("RGB", (64, 48), "green")]
    pixels = transforms.load(written(tmp_path / "a.jpg", two_halves, "MPO", save_all=True, append_images=others), SIDE)
    assert is_red(pixels[16, 1])
    assert not is_red(pixels[16, 30])


def test_whatever_a_plugin_raises_is_one_images_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = written(tmp_path / "good.png", Image.new("RGB", (9, 9)), "PNG")
    bad = written(tmp_path / "bad.png", Image.new("RGB", (9, 9)), "PNG")
    shrunk = transforms._shrunk

    def damaged(image: Image.Image, side: int) -> Image.Image:
        if "bad" in str(getattr(image, "filename", "")):
            raise struct.error("unpack requires a buffer of 4 bytes")
        return shrunk(image, side)

    monkeypatch.setattr(transforms, "_shrunk", damaged)
    first, second, third = transforms.load_all([good, bad, good], SIDE)
    assert isinstance(first, np.ndarray)
    assert isinstance(third, np.ndarray)
    assert isinstance(second, DataError)
    assert "unpack requires" in str(second)


@pytest.mark.parametrize("mode", ["P", "1", "L", "RGBA", "LA", "I;16"])
def test_a_large_image_is_thinned_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    path = written(tmp_path / "a.png", Image.new(mode, (3000, 2000)), "PNG")
    converted: list[int] = []
    opaque = transforms._opaque

    def watched(image: Image.Image) -> Image.Image:
        converted.append(image.width * image.height)
        return opaque(image)

    monkeypatch.setattr(transforms, "_opaque", watched)
    assert transforms.load(path, SIDE).shape == (SIDE, SIDE, 3)
    assert converted == [(transforms.THINNED * SIDE) ** 2]


def test_thinning_keeps_the_picture_and_its_transparency(tmp_path: Path, two_halves: Image.Image) -> None:
    large = two_halves.resize((1600, 1200), Image.Resampling.NEAREST).convert("P")
    blue = large.getpixel((1599, 0))
    pixels = transforms.load(written(tmp_path / "a.png", large, "PNG", transparency=blue), SIDE)
    assert is_red(pixels[16, 1])
    assert pixels[16, 30].tolist() == [255, 255, 255], "what is transparent is white"


def test_decoding_counts_the_memory_that_an_image_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    shrunk = transforms._shrunk

    def watched(image: Image.Image, side: int) -> Image.Image:
        counted.append(transforms._decoding._taken)
        return shrunk(image, side)

    monkeypatch.setattr(transforms, "_shrunk", watched)
    image = Image.new("RGB", (30, 20))
    for kind, options in (("PNG", {}), ("WEBP", {}), ("JPEG", {}), ("JPEG", {"progressive": True, "subsampling": 0})):
        transforms.load(written(tmp_path / "a", image, kind, **options), SIDE)
    assert counted == [8 * 600, 16 * 600, 0, 2 * 3 * 600]
    assert transforms._decoding._taken == 0


def test_more_pixels_are_read_of_a_jpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "MAX_PIXELS", 100)
    image = Image.new("RGB", (11, 10))
    with pytest.raises(DataError, match=r"11x10 pixels"):
        transforms.load(written(tmp_path / "a.png", image, "PNG"), SIDE)
    photo = written(tmp_path / "a.jpg", image, "JPEG")
    transforms.load(photo, SIDE)
    monkeypatch.setattr(transforms, "MAX_JPEG_PIXELS", 100)
    with pytest.raises(DataError, match=r"11x10 pixels"):
        transforms.load(photo, SIDE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("value", "expected"), [(65535, 255), (30000, 117), (0, 0)])
def test_16_bits_become_8_of_the_same_brightness(tmp_path: Path, kind: str, value: int, expected: int) -> None:
    flat = Image.fromarray(np.full((48, 64), value, np.uint16))
    path = written(tmp_path / "a", flat, kind)
    assert set(transforms.load(path, SIDE).ravel().tolist()) == {expected}


def test_16_bits_with_a_transparent_grey(tmp_path: Path) -> None:
    flat = Image.fromarray(np.full((48, 64), 30000, np.uint16))
    path = written(tmp_path / "a.png", flat, "PNG", transparency=5)
    assert set(transforms.load(path, SIDE).ravel().tolist()) == {117}


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_dark(tmp_path: Path, odd: float) -> None:
    values = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    values[0, 0] = odd
    pixels = transforms.load(written(tmp_path / "a.tif", Image.fromarray(values), "TIFF"), SIDE)
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[-1, -1].tolist() == [255, 255, 255]
    values[:] = odd
    pixels = transforms.load(written(tmp_path / "b.tif", Image.fromarray(values), "TIFF"), SIDE)
    assert not pixels.any()


def test_a_truncated_image_is_unreadable(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[:-600])
    with pytest.raises(DataError, match="cannot be read"):
        transforms.load(tmp_path / "a.png", SIDE)
