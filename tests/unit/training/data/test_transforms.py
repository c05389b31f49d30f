import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data import jpeg, transforms
from training.errors import DataError


def test_resized_to_a_square(picture: Callable[..., Path]) -> None:
    pixels = transforms.load(picture("red", size=(90, 30)), 32)
    assert pixels.shape == (32, 32, 3)
    assert tuple(pixels[0, 0]) == tuple(pixels[-1, -1]) == (220, 40, 40)


def test_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 64), "black")
    image.paste((255, 255, 255), (0, 0, 64, 32))  # white above black
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = transforms.load(tmp_path / "turned.png", 32)
    assert pixels[2, 16].max() == 0
    assert pixels[-2, 16].min() == 255


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "LA", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode in {"CMYK", "I;16"} else "image.png")
    Image.new(mode, (20, 20)).save(path)
    assert transforms.load(path, 32).shape == (32, 32, 3)


def test_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert transforms.load(tmp_path / "clear.png", 32).min() == 255


def test_large_jpeg_is_decoded_small(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), (40, 200, 60)).save(tmp_path / "large.jpg")
    pixels = transforms.load(tmp_path / "large.jpg", 64)
    assert np.abs(pixels.astype(int) - (40, 200, 60)).max() < 5


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n cut"])
def test_unreadable_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        transforms.load(tmp_path / "broken.png", 32)


def test_truncated_is_a_data_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.jpg"):
        transforms.load(tmp_path / "cut.jpg", 32)


def test_load_all_keeps_order_and_puts_errors_in_place(picture: Callable[..., Path], tmp_path: Path) -> None:
    paths = [picture("red"), tmp_path / "absent.png", picture("blue")] * 40  # more than two chunks
    loaded = list(transforms.load_all(paths, 32))
    assert len(loaded) == 120
    for red, error, blue in zip(loaded[::3], loaded[1::3], loaded[2::3], strict=True):
        assert isinstance(red, np.ndarray)
        assert red[0, 0, 0] == 220
        assert isinstance(error, DataError)
        assert isinstance(blue, np.ndarray)
        assert blue[0, 0, 2] == 220


def test_normalise_standardises() -> None:
    mean, std = (0.2, 0.5, 0.0), (0.1, 0.25, 1.0)
    pixels = torch.full((2, 32, 32, 3), 51, dtype=torch.uint8)  # a fifth of 255
    images = transforms.normalise(pixels, mean, std)
    assert images.shape == (2, 3, 32, 32)
    assert images[0, :, 0, 0].tolist() == pytest.approx([0.0, -1.2, 0.2], abs=1e-6)


def test_shift_moves_by_at_most_this_many_pixels() -> None:
    images = torch.zeros(20, 3, 32, 32)
    images[:, :, 16, 16] = 1.0
    moved = transforms.shift(images, 2)
    assert moved.shape == images.shape
    places = [tuple((image[0] == 1).nonzero()[0].tolist()) for image in moved]
    assert all(14 <= y <= 18 and 14 <= x <= 18 for y, x in places)
    assert len(set(places)) > 1


def test_images_wait_where_they_would_take_too_much_memory_together() -> None:
    budget, inside = transforms._Budget(100), threading.Event()

    def take(size: int) -> None:
        with budget.taking(size):
            inside.set()

    def started(size: int) -> threading.Thread:
        thread = threading.Thread(target=take, args=(size,))
        thread.start()
        return thread

    with budget.taking(60):
        started(40).join(10)
        assert inside.is_set()
        inside.clear()
        waiting = [started(41), started(500)]
        assert not inside.is_set()
    for thread in waiting:  # one after the other: the second takes more than there is, and is alone
        thread.join(10)
        assert not thread.is_alive()


CUDA = torch.device("cuda")


def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.jpg"
    Image.linear_gradient("L").resize((300, 200)).convert("RGB").save(path)
    return path


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A CUDA device that says where an image is white; the sides that it was asked for."""
    asked: list[int] = []

    def decode(contents: list[bytes], side: int, device: torch.device) -> list[torch.Tensor | None]:
        asked.append(side)
        white = torch.full((side, side, 3), 255, dtype=torch.uint8)
        return [None if b"progressive" in content else white for content in contents]

    monkeypatch.setattr(jpeg, "decode_jpegs", decode)
    monkeypatch.setattr(transforms, "SAMPLE", (300, 200))
    monkeypatch.setattr(transforms, "_faster", {CUDA: True})
    return asked


def test_a_cuda_device_reads_large_jpegs_where_it_is_faster(
    tmp_path: Path, picture: Callable[..., Path], decoder: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, small = large(tmp_path), picture("red")
    assert transforms.read(path, 32, CUDA).min() == 255
    assert transforms.read(path, 32, torch.device("cpu")).min() < 255
    assert transforms.read(small, 32, CUDA)[0, 0, 0] == 220
    assert decoder == [32]
    with pytest.raises(DataError, match="absent"):
        transforms.read(tmp_path / "absent.jpg", 32, CUDA)
    monkeypatch.setattr(transforms, "_faster", {CUDA: False})
    assert transforms.read(path, 32, CUDA).min() < 255


def test_pillow_reads_what_the_device_does_not(tmp_path: Path, decoder: list[int]) -> None:
    path = large(tmp_path)
    with Image.open(path) as image:
        image.save(path, comment=b"progressive")
    assert np.array_equal(transforms.read(path, 32, CUDA), transforms.load(path, 32))
    assert decoder == [32]


@pytest.mark.parametrize(
    ("level", "seconds", "faster"), [(0, 0, True), (9, 0, False), (0, 60, False), (None, 0, False)]
)
def test_a_device_decodes_only_if_it_is_right_and_faster_than_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int | None, seconds: float, faster: bool
) -> None:
    clock, load, path = [0.0], transforms.load, tmp_path / "sample.jpg"

    def decode(contents: list[bytes], side: int, device: torch.device) -> list[torch.Tensor | None]:
        clock[0] += seconds
        path.write_bytes(contents[0])
        return [None if level is None else torch.from_numpy(load(path, side) // 2 + level)]

    def by_pillow(path: Path, side: int) -> np.ndarray:
        clock[0] += 50
        return load(path, side) // 2

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(jpeg, "decode_jpegs", decode)
    monkeypatch.setattr(transforms, "load", by_pillow)
    monkeypatch.setattr(transforms, "SAMPLE", (64, 48))
    monkeypatch.setattr(transforms, "_faster", {})
    assert transforms._decodes_faster(CUDA) == faster


def test_where_there_is_no_such_device_pillow_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "SAMPLE", (300, 200))
    monkeypatch.setattr(transforms, "_faster", {})
    pixels = transforms.read(large(tmp_path), 32, torch.device("cuda", 99))
    assert np.array_equal(pixels, transforms.load(large(tmp_path), 32))
