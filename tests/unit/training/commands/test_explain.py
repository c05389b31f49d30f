from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.captioner.captioner import Captioner
from training.config import ARCHITECTURES, DecoderConfig
from training.data.transforms import thumbnail
from training.errors import DataError, TrainingError
from training.evaluation import explain
from training.vocabulary import START


def test_a_word_has_the_map_of_the_step_that_chose_it(tiny: Captioner) -> None:
    grid = torch.randn(tiny.encoder.cells(32), tiny.encoder.channels)
    tokens = (5, 4, 6)
    maps = explain.attention_maps(tiny, grid, tokens)
    assert maps.shape == (3, 4, 4)
    assert maps.sum(axis=(1, 2)) == pytest.approx(1.0)
    with torch.inference_mode():
        encoded = tiny.decoder.prepare(grid[None])
        state = tiny.decoder.initial_state(encoded, 1)
        for word, expected in zip((START, *tokens), maps, strict=False):
            output = tiny.decoder.decode(encoded, torch.tensor([[[word]]]), state)
            state = output.state
            assert output.attention is not None
            assert output.attention.flatten().numpy() == pytest.approx(expected.ravel(), abs=1e-6)
    assert explain.attention_maps(tiny, grid, ()).shape == (0, 4, 4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_decoders_with_attention_are_explained(architecture: str, tiny: Captioner) -> None:
    decoder = DecoderConfig(embedding=16, hidden=32, heads=2, architecture=architecture)
    captioner = Captioner(
        tiny.encoder.config, decoder, tiny.transform, tiny.decoding, tiny.vocabulary, tiny.style
    ).eval()
    if captioner.decoder.attends:
        explain.check(captioner)
        grid = torch.randn(captioner.encoder.cells(32), captioner.encoder.channels)
        assert explain.attention_maps(captioner, grid, (4, 5)).shape == (2, 4, 4)
    else:
        with pytest.raises(TrainingError, match=f"the decoder {architecture} has no attention"):
            explain.check(captioner)


def test_the_region_with_attention_is_lit(picture: Callable[..., Path]) -> None:
    image = picture("white", size=(400, 200))
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 0, 3] = 1.0  # the upper right
    drawn = np.asarray(explain.draw(image, "White.", ["white"], maps)).astype(int).sum(axis=2)
    left = explain.GAP + explain.TILE + explain.GAP
    top = next(row for row in range(len(drawn)) if drawn[row, explain.GAP + 200] > 700)  # the image itself
    tile = drawn[top : top + 130, left : left + explain.TILE]
    bright, dark = tile[5:25, 200:255].mean(), tile[70:125, 5:130].mean()
    assert bright > 1.5 * dark


@pytest.mark.parametrize("size", [(1000, 4), (4, 1000), (1, 1), (640, 480)])
@pytest.mark.parametrize("caption", ["", "a " * 80, "W" * 400])
def test_any_proportions_and_captions_make_a_page(
    size: tuple[int, int], caption: str, picture: Callable[..., Path]
) -> None:
    words = caption.split()
    maps = np.full((len(words), 2, 2), 0.25, dtype=np.float32)
    page = explain.draw(picture("blue", size=size), caption, words, maps)
    assert page.width >= 3 * explain.TILE
    assert page.height >= 100


def test_a_file_that_is_no_image_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read"):
        explain.draw(tmp_path / "x.png", "a", ["a"], np.ones((1, 1, 1), dtype=np.float32))


def test_thumbnails_are_whole_and_upright(tmp_path: Path) -> None:
    path = tmp_path / "lying.jpg"
    photo = Image.new("RGB", (80, 40), "red")
    photo.paste("blue", (40, 0, 80, 40))
    exif = photo.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    photo.save(path, exif=exif, quality=95)
    small = thumbnail(path, 60)
    assert small.size == (30, 60)
    top, bottom = small.getpixel((15, 5)), small.getpixel((15, 55))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200 > bottom[0]
