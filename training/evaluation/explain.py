"""Attention maps: how much weight each word of a caption gave to each region of the image, and a picture of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from training.captioner.captioner import Captioner
from training.data.transforms import thumbnail
from training.errors import TrainingError
from training.vocabulary import START

TILE = 260  # pixels of the image's longer side in each tile
NARROWEST = 130  # pixels of a tile's width at least, so that a word fits under a tall image
GAP = 18
LABEL = 36  # pixels of height for the word under each tile
PAPER, INK, FAINT = (19, 21, 26), (240, 240, 236), (150, 153, 160)
HEAT = np.array([(38, 20, 90), (135, 32, 120), (215, 64, 82), (250, 142, 40), (252, 236, 150)], dtype=np.float32)
"""Colour scale (RGB) from the lowest to the highest attention."""


def check(captioner: Captioner) -> None:
    """Raise TrainingError if the captioner has no attention maps."""
    if not captioner.decoder.attends:
        architecture = captioner.decoder.config.architecture
        raise TrainingError(f"There is nothing to show: the decoder {architecture} has no attention.")


def attention_maps(captioner: Captioner, grid: torch.Tensor, tokens: Sequence[int]) -> np.ndarray:
    """The attention weights (T, H, W) of T words over an image's `grid` of features (P, C) with P = H * W."""
    side = math.isqrt(len(grid))
    if not tokens:
        return np.zeros((0, side, side), dtype=np.float32)
    inputs = torch.tensor([START, *tokens[:-1]], device=captioner.device)  # input t predicts word t
    captioner.eval()
    with torch.inference_mode():
        attention = captioner.decoder(grid[None].to(captioner.device, torch.float32), inputs[None, None]).attention
    assert attention is not None
    return attention.reshape(len(tokens), side, side).float().cpu().numpy()


def draw(image: Path, caption: str, words: Sequence[str], maps: np.ndarray) -> Image.Image:
    """A page with the image, and for each word a copy of it with the regions lit that the word attended to.

    `maps` are those of `attention_maps` (T, H, W), on one scale for all tiles. Raises DataError when the image cannot
    be read.
    """
    photo = thumbnail(image, TILE)
    brightest = max(float(maps.max(initial=0.0)), 4 / max(1, maps[:1].size))
    tiles = [photo, *(_lit(photo, each / brightest) for each in maps)]
    labels = ["", *words]

    width, height = max(photo.width, NARROWEST) + GAP, photo.height + LABEL
    columns = min(len(tiles), max(3, math.ceil(math.sqrt(1.7 * len(tiles) * height / width))))
    inner = max(columns * width - GAP, 3 * TILE)
    heading, large = _lines(caption, _font(25), inner), 34
    top = GAP + large * len(heading) + 30 + GAP
    rows = math.ceil(len(tiles) / columns)
    page = Image.new("RGB", (inner + 2 * GAP, top + rows * height + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(heading):
        pen.text((GAP, GAP + number * large), line, INK, _font(25))
    below = GAP + large * len(heading) + 4
    pen.text((GAP, below), _fitted(image.name, _font(15), inner - 300), FAINT, _font(15))
    _legend(page, pen, below)
    for number, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        left, upper = GAP + number % columns * width, top + number // columns * height
        middle = left + (width - GAP) // 2
        page.paste(tile, (middle - tile.width // 2, upper))
        font = _font(18)
        pen.text((middle, upper + tile.height + 5), _fitted(label, font, width - GAP), INK, font, anchor="ma")
    return page


def _lit(photo: Image.Image, heat: np.ndarray) -> Image.Image:
    """The photo, darkened where the attention `heat` (H, W), from 0 to 1, is low, and tinted by the colour scale."""
    smooth = Image.fromarray(heat.astype(np.float32)).resize(photo.size, Image.Resampling.BICUBIC)
    strength = np.asarray(smooth).clip(0, 1)[..., None]
    dim = ImageEnhance.Brightness(ImageEnhance.Color(photo).enhance(0.3)).enhance(0.42)
    shown = np.asarray(dim) * (1 - strength) + np.asarray(photo) * strength
    tint = 0.6 * strength**0.8
    return Image.fromarray((shown * (1 - tint) + _colours(strength[..., 0]) * tint).round().astype(np.uint8))


def _colours(heat: np.ndarray) -> np.ndarray:
    steps = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(heat, steps, channel) for channel in HEAT.T], axis=-1)


def _legend(page: Image.Image, pen: ImageDraw.ImageDraw, top: int) -> None:
    """Draw the colour scale at the right edge."""
    font, right = _font(15), page.width - GAP
    pen.text((right, top), "most attention", FAINT, font, anchor="ra")
    right -= round(pen.textlength("most attention", font)) + 10
    bar = _colours(np.linspace(0, 1, 90)[None].repeat(10, axis=0)).round().astype(np.uint8)
    page.paste(Image.fromarray(bar), (right - 90, top + 5))
    pen.text((right - 100, top), "least", FAINT, font, anchor="ra")


def _lines(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """The text wrapped to lines of at most this width in pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_fitted(word, font, width))
    return lines or ["(empty)"]


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The text, shortened with an ellipsis if it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which has many scripts, where it is installed, else Pillow's own font."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)
