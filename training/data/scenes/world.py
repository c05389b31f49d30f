"""What scenes consist of, and random scenes from a seed."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

from training.errors import DataError

SMALL, LARGE = "small", "large"
RADII = {SMALL: (0.075, 0.09), LARGE: (0.135, 0.155)}


@dataclass(frozen=True)
class Thing:
    """One shape; its centre `x`, `y` (from the top) and its `radius` are shares of the picture's side."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    radius: float

    @property
    def appearance(self) -> tuple[str, str, str]:
        return self.kind, self.colour, self.size


@dataclass(frozen=True)
class Group:
    """Things of one appearance, which are named together ("two small red circles"), and their centre."""

    things: tuple[Thing, ...]

    @property
    def x(self) -> float:
        return sum(thing.x for thing in self.things) / len(self.things)

    @property
    def y(self) -> float:
        return sum(thing.y for thing in self.things) / len(self.things)


@dataclass(frozen=True)
class Scene:
    """One to three things in one or two groups; `seed` decides how they are drawn (shades, rotations, noise)."""

    things: tuple[Thing, ...]
    seed: int

    @property
    def groups(self) -> tuple[Group, ...]:
        ordered = sorted(self.things, key=lambda thing: thing.appearance)
        return tuple(Group(tuple(things)) for _, things in groupby(ordered, key=lambda thing: thing.appearance))

    @property
    def relation(self) -> str | None:
        """The first group relative to the second: inside, around, above, below, left or right; None for one group."""
        if len(self.groups) < 2:
            return None
        a, b = self.groups
        dx, dy = a.x - b.x, a.y - b.y
        reach = (dx * dx + dy * dy) ** 0.5
        if len(self.things) == 2 and reach < max(a.things[0].radius, b.things[0].radius):
            return "inside" if a.things[0].radius < b.things[0].radius else "around"
        if abs(dx) > abs(dy):
            return "left" if dx < 0 else "right"
        return "above" if dy < 0 else "below"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Scene:
        """The inverse of `to_json`. Raises DataError for anything else."""
        try:
            return cls(things=tuple(Thing(**thing) for thing in value["things"]), seed=int(value["seed"]))
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(f"This is not a scene: {value!r}.") from error


@dataclass(frozen=True)
class World:
    """What scenes consist of. A share `novel_share` of them has one of the `novel_*` kinds, colours or relations."""

    kinds: tuple[str, ...] = ("circle", "square", "triangle")
    colours: tuple[str, ...] = ("red", "blue", "green", "yellow")
    novel_kinds: tuple[str, ...] = ()
    novel_colours: tuple[str, ...] = ()
    novel_relations: tuple[str, ...] = ()
    novel_share: float = 0.0


WORLDS = {
    "starter": World(),
    "full": World(
        novel_kinds=("star",), novel_colours=("purple", "orange"), novel_relations=("inside",), novel_share=0.45
    ),
}
"""`full` extends `starter` with things that a captioner trained on `starter` has no words for."""


def generate(count: int, seed: int, world: str = "starter") -> list[Scene]:
    """`count` scenes of a world; the same seed gives the same scenes. Raises DataError for an unknown world."""
    if world not in WORLDS:
        raise DataError(f"There is no world of scenes called {world!r}; there are {', '.join(WORLDS)}.")
    rng = random.Random(f"{world}:{seed}")
    return [_scene(WORLDS[world], rng) for _ in range(count)]


def _scene(world: World, rng: random.Random) -> Scene:
    novelties = (*world.novel_kinds, *world.novel_colours, *world.novel_relations)
    novelty = rng.choice(novelties) if rng.random() < world.novel_share else None
    appearances = _appearances(world, rng)
    if novelty in world.novel_kinds:
        appearances[0] = (novelty, *appearances[0][1:])
    elif novelty in world.novel_colours:
        appearances[0] = (appearances[0][0], novelty, appearances[0][2])
    if novelty in world.novel_relations:
        things = _nested(appearances, rng)
    else:
        arrange = rng.choices((_single, _row, _pair, _pair_and_one), weights=(20, 20, 40, 20))[0]
        things = arrange(appearances, rng)
    return Scene(things=tuple(things), seed=rng.getrandbits(32))


def _appearances(world: World, rng: random.Random) -> list[tuple[str, str, str]]:
    """Two appearances that differ in kind or colour, so that sentences without sizes distinguish them."""
    first, second = rng.sample([(kind, colour) for kind in world.kinds for colour in world.colours], 2)
    return [(*first, rng.choice((SMALL, LARGE))), (*second, rng.choice((SMALL, LARGE)))]


def _thing(appearance: tuple[str, str, str], x: float, y: float, rng: random.Random, jitter: float) -> Thing:
    kind, colour, size = appearance
    return Thing(
        kind=kind,
        colour=colour,
        size=size,
        x=round(x + rng.uniform(-jitter, jitter), 4),
        y=round(y + rng.uniform(-jitter, jitter), 4),
        radius=round(rng.uniform(*RADII[size]), 4),
    )


def _single(appearances: list[tuple[str, str, str]], rng: random.Random) -> list[Thing]:
    x, y = rng.choice(((0.5, 0.5), (0.5, 0.21), (0.5, 0.79), (0.21, 0.5), (0.79, 0.5)))
    return [_thing(appearances[0], x, y, rng, 0.035)]


def _row(appearances: list[tuple[str, str, str]], rng: random.Random) -> list[Thing]:
    along = rng.choice(((0.3, 0.7), (0.18, 0.5, 0.82)))
    upright = rng.random() < 0.5
    across = rng.uniform(0.35, 0.65)
    return [_thing(appearances[0], *((across, at) if upright else (at, across)), rng, 0.015) for at in along]


def _pair(appearances: list[tuple[str, str, str]], rng: random.Random) -> list[Thing]:
    return [_thing(appearance, *at, rng, 0.05) for appearance, at in zip(appearances, _sides(rng), strict=True)]


def _pair_and_one(appearances: list[tuple[str, str, str]], rng: random.Random) -> list[Thing]:
    (x, y), other = _sides(rng)
    dx, dy = (0.0, 0.2) if y == 0.5 else (0.2, 0.0)
    two = [_thing(appearances[0], x - dx, y - dy, rng, 0.02), _thing(appearances[0], x + dx, y + dy, rng, 0.02)]
    return [*two, _thing(appearances[1], *other, rng, 0.03)]


def _nested(appearances: list[tuple[str, str, str]], rng: random.Random) -> list[Thing]:
    inner, outer = (*appearances[0][:2], SMALL), (*appearances[1][:2], LARGE)
    if inner[1] == outer[1]:
        others = [colour for colour in WORLDS["starter"].colours if colour != inner[1]]
        outer = (outer[0], rng.choice(others), LARGE)
    around = replace(_thing(outer, 0.5, 0.5, rng, 0.06), radius=round(rng.uniform(0.31, 0.36), 4))
    return [_thing(inner, around.x, around.y, rng, 0.015), around]


def _sides(rng: random.Random) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two opposite positions (x, y) in random order: left and right, or top and bottom."""
    sides = rng.choice((((0.26, 0.5), (0.74, 0.5)), ((0.5, 0.26), (0.5, 0.74))))
    return sides if rng.random() < 0.5 else (sides[1], sides[0])
