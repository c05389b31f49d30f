"""Photos for small copies of published data sets: real JPEGs, whole or damaged."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

Photo = Callable[[Path], Path]


@pytest.fixture
def photo() -> Photo:
    """Draws a JPEG of its own content at a path."""
    shades: Iterator[int] = count()

    def draw(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_mandelbrot((60, 45), (-2, -1, 1, 1), 20 + next(shades)).save(path, "JPEG")
        return path

    return draw


@pytest.fixture
def halve() -> Callable[[Path], None]:
    """Damages a photo as a broken download does."""

    def cut(path: Path) -> None:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])

    return cut
