"""Draws scenes. Shades, rotations, shadows and noise vary with the scene's seed, so that recognition is not trivial."""

from __future__ import annotations

import math
import random

import numpy
import numpy.typing
from PIL import Image, ImageDraw, ImageFilter

from training.data.scenes.world import Scene, Thing

_COLOURS = {
    "red": (212, 52, 52),
    "blue": (48, 100, 205),
    "green": (52, 158, 80),
    "yellow": (246, 211, 62),
    "purple": (142, 70, 180),
    "orange": (238, 134, 38),
}
_FINER = 2  # antialiasing: drawn this many times larger, then reduced

Point = tuple[float, float]


def draw(scene: Scene, side: int = 128) -> Image.Image:
    """The scene as an RGB picture of `side` x `side` pixels; the same scene always gives the same picture."""
    rng = random.Random(scene.seed)
    large = side * _FINER
    background = Image.fromarray(_background(rng, scene.seed, side)).resize((large, large), Image.Resampling.BILINEAR)
    outlines = [(_outline(thing, rng), thing) for thing in sorted(scene.things, key=lambda thing: -thing.radius)]
    shadow = Image.new("L", background.size, 0)
    for outline, _ in outlines:
        ImageDraw.Draw(shadow).polygon([((x + 0.012) * large, (y + 0.018) * large) for x, y in outline], fill=90)
    shadow = shadow.filter(ImageFilter.GaussianBlur(0.012 * large))
    background.paste((40, 40, 50), mask=shadow)
    brush = ImageDraw.Draw(background)
    for outline, thing in outlines:
        colour = _shade(_COLOURS[thing.colour], rng)
        edge = tuple(int(0.78 * part) for part in colour)
        points = [(x * large, y * large) for x, y in outline]
        brush.polygon(points, fill=colour)
        brush.line([*points, points[0]], fill=edge, width=max(1, round(0.009 * large)), joint="curve")
    return background.resize((side, side), Image.Resampling.BOX)


def _background(rng: random.Random, seed: int, side: int) -> numpy.typing.NDArray[numpy.uint8]:
    """A pale background (side, side, 3) with a brightness gradient and noise."""
    paper = numpy.array([rng.uniform(212, 246) for _ in range(3)], dtype=numpy.float32)
    slope = numpy.linspace(rng.uniform(-16, 0), rng.uniform(0, 8), side, dtype=numpy.float32)
    slope = slope[:, None, None] if rng.random() < 0.5 else slope[None, :, None]
    grain = numpy.random.default_rng(seed).normal(0, rng.uniform(2, 7), (side, side, 1)).astype(numpy.float32)
    return (paper + slope + grain).clip(0, 255).astype(numpy.uint8)


def _shade(colour: tuple[int, int, int], rng: random.Random) -> tuple[int, int, int]:
    light = rng.uniform(0.9, 1.08)
    red, green, blue = (max(0, min(255, round(part * light + rng.uniform(-8, 8)))) for part in colour)
    return red, green, blue


def _outline(thing: Thing, rng: random.Random) -> list[Point]:
    """The shape's corners in shares of the picture's side, rotated at random by up to ten degrees."""
    turn = math.radians(rng.uniform(-10, 10))
    corners = _SHAPES[thing.kind]()
    cos, sin = math.cos(turn) * thing.radius, math.sin(turn) * thing.radius
    return [(thing.x + x * cos - y * sin, thing.y + x * sin + y * cos) for x, y in corners]


def _regular(corners: int, reach: float, start: float = -90.0) -> list[Point]:
    angles = [math.radians(start + 360 * number / corners) for number in range(corners)]
    return [(reach * math.cos(angle), reach * math.sin(angle)) for angle in angles]


def _star() -> list[Point]:
    outer, inner = _regular(5, 1.2), _regular(5, 0.55, start=-54.0)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


_SHAPES = {
    "circle": lambda: _regular(48, 1.0),
    "square": lambda: _regular(4, 1.27, start=-45.0),
    "triangle": lambda: _regular(3, 1.25),
    "star": _star,
}
