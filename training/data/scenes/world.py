"""What may be in a scene, and scenes drawn by lot from a seed."""

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
    """One shape; `x`, `y` (centre, downwards) and `radius` are shares of the picture's side."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    radius: float

    @property
    def look(self) -> tuple[str, str, str]:
        return self.kind, self.colour, self.size


@dataclass(frozen=True)
class Group:
    """Things of one look, named together ("two small red circles"), and the middle of them."""

    things: tuple[Thing, ...]

    @property
    def x(self) -> float:
        return sum(thing.x for thing in self.things) / len(self.things)

    @property
    def y(self) -> float:
        return sum(thing.y for thing in self.things) / len(self.things)


@dataclass(frozen=True)
class Scene:
    """One to three things in one or two groups; `seed` fixes how the picture varies (shades, turns, noise)."""

    things: tuple[Thing, ...]
    seed: int

    @property
    def groups(self) -> tuple[Group, ...]:
        ordered = sorted(self.things, key=lambda thing: thing.look)
        return tuple(Group(tuple(things)) for _, things in groupby(ordered, key=lambda thing: thing.look))

    @property
    def relation(self) -> str | None:
        """Where the first group is from the second: inside, around, above, below, left or right; None for one group."""
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
    """What scenes are made of. A share `novel_share` of them holds one of the `novel_*` things or relations."""

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
"""`full` is `starter` with a few things more: a captioner trained on the first has no words for them."""


def generate(count: int, seed: int, world: str = "starter") -> list[Scene]:
    """`count` scenes of a world; the same seed gives the same scenes. Raises DataError for an unknown world."""
    if world not in WORLDS:
        raise DataError(f"There is no world of scenes called {world!r}; there are {', '.join(WORLDS)}.")
    lot = random.Random(f"{world}:{seed}")
    return [_scene(WORLDS[world], lot) for _ in range(count)]


def is_novel(scene: Scene) -> bool:
    """Whether the scene holds something the starter world lacks."""
    known = WORLDS["starter"]
    strange = any(thing.kind not in known.kinds or thing.colour not in known.colours for thing in scene.things)
    return strange or scene.relation in {"inside", "around"}


def _scene(world: World, lot: random.Random) -> Scene:
    novelties = (*world.novel_kinds, *world.novel_colours, *world.novel_relations)
    novelty = lot.choice(novelties) if lot.random() < world.novel_share else None
    looks = _looks(world, lot)
    if novelty in world.novel_kinds:
        looks[0] = (novelty, *looks[0][1:])
    elif novelty in world.novel_colours:
        looks[0] = (looks[0][0], novelty, looks[0][2])
    if novelty in world.novel_relations:
        things = _nested(looks, lot)
    else:
        arrange = lot.choices((_single, _row, _pair, _pair_and_one), weights=(20, 20, 40, 20))[0]
        things = arrange(looks, lot)
    return Scene(things=tuple(things), seed=lot.getrandbits(32))


def _looks(world: World, lot: random.Random) -> list[tuple[str, str, str]]:
    """Two looks that differ in kind or colour, so that a sentence without sizes still tells them apart."""
    first, second = lot.sample([(kind, colour) for kind in world.kinds for colour in world.colours], 2)
    return [(*first, lot.choice((SMALL, LARGE))), (*second, lot.choice((SMALL, LARGE)))]


def _thing(look: tuple[str, str, str], x: float, y: float, lot: random.Random, jitter: float) -> Thing:
    kind, colour, size = look
    return Thing(
        kind=kind,
        colour=colour,
        size=size,
        x=round(x + lot.uniform(-jitter, jitter), 4),
        y=round(y + lot.uniform(-jitter, jitter), 4),
        radius=round(lot.uniform(*RADII[size]), 4),
    )


def _single(looks: list[tuple[str, str, str]], lot: random.Random) -> list[Thing]:
    x, y = lot.choice(((0.5, 0.5), (0.5, 0.21), (0.5, 0.79), (0.21, 0.5), (0.79, 0.5)))
    return [_thing(looks[0], x, y, lot, 0.035)]


def _row(looks: list[tuple[str, str, str]], lot: random.Random) -> list[Thing]:
    along = lot.choice(((0.3, 0.7), (0.18, 0.5, 0.82)))
    upright = lot.random() < 0.5
    across = lot.uniform(0.35, 0.65)
    return [_thing(looks[0], *((across, at) if upright else (at, across)), lot, 0.015) for at in along]


def _pair(looks: list[tuple[str, str, str]], lot: random.Random) -> list[Thing]:
    near, far = _sides(lot)
    return [_thing(look, *at, lot, 0.05) for look, at in zip(looks, (near, far), strict=True)]


def _pair_and_one(looks: list[tuple[str, str, str]], lot: random.Random) -> list[Thing]:
    (x, y), other = _sides(lot)
    dx, dy = (0.0, 0.2) if y == 0.5 else (0.2, 0.0)
    two = [_thing(looks[0], x - dx, y - dy, lot, 0.02), _thing(looks[0], x + dx, y + dy, lot, 0.02)]
    return [*two, _thing(looks[1], *other, lot, 0.03)]


def _nested(looks: list[tuple[str, str, str]], lot: random.Random) -> list[Thing]:
    inner, outer = (*looks[0][:2], SMALL), (*looks[1][:2], LARGE)
    if inner[1] == outer[1]:
        others = [colour for colour in WORLDS["starter"].colours if colour != inner[1]]
        outer = (outer[0], lot.choice(others), LARGE)
    around = replace(_thing(outer, 0.5, 0.5, lot, 0.06), radius=round(lot.uniform(0.31, 0.36), 4))
    return [_thing(inner, around.x, around.y, lot, 0.015), around]


def _sides(lot: random.Random) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two opposite places, in either order: left and right, or top and bottom."""
    places = lot.choice((((0.26, 0.5), (0.74, 0.5)), ((0.5, 0.26), (0.5, 0.74))))
    return places if lot.random() < 0.5 else (places[1], places[0])
