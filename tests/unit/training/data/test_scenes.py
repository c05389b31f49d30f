import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from training.data import manifest, scenes
from training.data.scenes import Scene, Thing
from training.data.scenes.world import LARGE, SMALL
from training.errors import DataError
from training.metrics import word_edits
from training.vocabulary import Style, tokenize

CIRCLE = Thing("circle", "red", SMALL, 0.5, 0.25, 0.08)
SQUARE = Thing("square", "blue", LARGE, 0.5, 0.75, 0.14)
PAIR = Scene((CIRCLE, SQUARE), seed=1)
MANY = [scene for world in scenes.WORLDS for scene in scenes.generate(150, 5, world)]


def moved(thing: Thing, x: float, y: float) -> Thing:
    return Thing(thing.kind, thing.colour, thing.size, x, y, thing.radius)


@pytest.mark.parametrize(
    "caption",
    [
        "A small red circle sits above a large blue square.",
        "a large blue square is below a small red circle",
        "There is a red circle above a blue square.",
        "The picture shows a blue square and a red circle.",
    ],
)
def test_true_captions(caption: str) -> None:
    assert scenes.is_true(caption, PAIR)


@pytest.mark.parametrize(
    "caption",
    [
        "A large red circle sits above a large blue square.",  # size
        "A small green circle sits above a large blue square.",  # colour
        "A small red triangle sits above a large blue square.",  # kind
        "A small red circle sits below a large blue square.",  # relation
        "A small red circle is next to a large blue square.",  # relation
        "Two small red circles sit above a large blue square.",  # count
        "A small red circle.",  # something is not named
        "A small red circle sit above a large blue square.",  # grammar
        "A small red circle sits above a large blue square square.",  # grammar
        "A small red circle sits above a large blue dog.",  # unknown word
        "",
    ],
)
def test_false_captions(caption: str) -> None:
    assert not scenes.is_true(caption, PAIR)


@pytest.mark.parametrize(
    ("scene", "caption", "false"),
    [
        (
            Scene((moved(CIRCLE, 0.25, 0.5), moved(SQUARE, 0.75, 0.5)), 1),
            "A small red circle to the left of a large blue square.",
            "A small red circle to the right of a large blue square.",
        ),
        (
            Scene((moved(CIRCLE, 0.5, 0.5), Thing("square", "blue", LARGE, 0.5, 0.5, 0.33)), 1),
            "A small red circle is inside a large blue square.",
            "A large blue square is inside a small red circle.",
        ),
        (
            Scene((moved(CIRCLE, 0.3, 0.5), moved(CIRCLE, 0.7, 0.5)), 1),
            "There are two small red circles side by side.",
            "There are two small red circles one above the other.",
        ),
        (
            Scene((moved(SQUARE, 0.5, 0.18), moved(SQUARE, 0.5, 0.5), moved(SQUARE, 0.5, 0.82)), 1),
            "Three large blue squares sit in a column.",
            "Three large blue squares sit in a row.",
        ),
        (
            Scene((moved(CIRCLE, 0.3, 0.26), moved(CIRCLE, 0.7, 0.26), SQUARE), 1),
            "Two small red circles are over a large blue square.",
            "Two small red circles are under a large blue square.",
        ),
        (
            Scene((Thing("square", "orange", SMALL, 0.79, 0.5, 0.08),), 1),
            "An orange square is on the right of the picture.",
            "A orange square is on the right of the picture.",
        ),
    ],
)
def test_each_arrangement_has_its_words(scene: Scene, caption: str, false: str) -> None:
    assert scenes.is_true(caption, scene)
    assert not scenes.is_true(false, scene)


def test_five_different_true_captions_in_good_style() -> None:
    for scene in MANY:
        texts = scenes.captions(scene, seed=3)
        assert len({text.lower() for text in texts}) == 5
        assert all(scenes.is_true(text, scene) for text in texts)
        assert all(text[0].isupper() and text.endswith(".") and "  " not in text and " ." not in text for text in texts)
        assert Style.of(texts) == Style(capitalise=True, full_stop=True)
        assert texts == scenes.captions(scene, seed=3)
    assert any(scenes.captions(scene, seed=3) != scenes.captions(scene, seed=4) for scene in MANY)


def test_a_caption_of_another_scene_is_true_only_of_scenes_alike() -> None:
    shared = sum(scenes.is_true(scenes.captions(a, 0)[0], b) for a, b in itertools.pairwise(MANY))
    assert shared < len(MANY) * 0.03


def test_closest_is_what_an_annotator_would_submit() -> None:
    kept = "A small red circle sits above a large blue square."
    assert scenes.closest(kept, PAIR) == kept
    assert scenes.closest("a large red circle sits above a large blue square", PAIR) == kept
    assert scenes.closest("A small red star sits below a large blue square.", PAIR) in (
        kept,
        "A small red circle sits under a large blue square.",
    )
    for scene, other in itertools.pairwise(MANY):
        draft = scenes.captions(other, 0)[0]
        submitted = scenes.closest(draft, scene)
        assert scenes.is_true(submitted, scene)
        assert word_edits(draft, submitted) == min(word_edits(draft, text) for text in scenes.phrasings(scene))
    assert scenes.is_true(scenes.closest("", PAIR), PAIR)


def test_same_seed_same_scenes() -> None:
    assert scenes.generate(20, 7, "full") == scenes.generate(20, 7, "full")
    assert scenes.generate(20, 7, "full") != scenes.generate(20, 8, "full")
    assert scenes.generate(20, 7, "full")[:5] == scenes.generate(5, 7, "full")


def is_novel(scene: Scene) -> bool:
    """Whether the scene has something that the starter world lacks."""
    known = scenes.WORLDS["starter"]
    strange = any(thing.kind not in known.kinds or thing.colour not in known.colours for thing in scene.things)
    return strange or scene.relation in {"inside", "around"}


def test_the_full_world_holds_what_the_starter_lacks_in_under_half_of_its_scenes() -> None:
    starter, full = (scenes.generate(600, 1, world) for world in ("starter", "full"))
    assert not any(is_novel(scene) for scene in starter)
    assert 0.4 < sum(is_novel(scene) for scene in full) / 600 < 0.5
    old, new = (
        {word for scene in world for word in tokenize(" ".join(scenes.phrasings(scene)))} for world in (starter, full)
    )
    assert new - old == {"star", "stars", "purple", "orange", "an", "inside"}
    assert old <= new


def test_every_scene_fits_and_nothing_overlaps_but_what_is_inside() -> None:
    for scene in MANY:
        assert 1 <= len(scene.things) <= 3
        for number, thing in enumerate(scene.things):
            assert min(thing.x, thing.y, 1 - thing.x, 1 - thing.y) > thing.radius
            for other in scene.things[number + 1 :]:
                apart = ((thing.x - other.x) ** 2 + (thing.y - other.y) ** 2) ** 0.5
                inside = scene.relation in {"inside", "around"}
                assert (apart < abs(thing.radius - other.radius)) if inside else (apart > thing.radius + other.radius)


def test_an_unknown_world() -> None:
    with pytest.raises(DataError, match="starter, full"):
        scenes.generate(1, 1, "moon")


@pytest.mark.parametrize("side", [64, 128])
def test_draw_shows_each_thing_where_it_is(side: int) -> None:
    picture = scenes.draw(PAIR, side)
    assert (picture.size, picture.mode) == ((side, side), "RGB")
    red, green, blue = picture.getpixel((side // 2, side // 4))  # type: ignore[misc]
    assert red > 2 * max(green, blue)
    red, green, blue = picture.getpixel((side // 2, side * 3 // 4))  # type: ignore[misc]
    assert blue > 2 * red
    assert min(picture.getpixel((3, 3))) > 170  # type: ignore[arg-type]


def test_pictures_vary_with_the_seed_only() -> None:
    one, again, other = (numpy.asarray(scenes.draw(Scene(PAIR.things, seed)), dtype=int) for seed in (1, 1, 2))
    assert (one == again).all()
    assert numpy.abs(one - other).mean() > 1


def test_write_and_load(tmp_path: Path) -> None:
    path = scenes.write(tmp_path / "set", 60, seed=2, world="full", dev_share=0.3, side=64)
    rows = manifest.load(path)
    listing = scenes.load_scenes(path.parent)
    assert [row.image.name for row in rows] == list(listing)
    assert list(listing.values()) == scenes.generate(60, 2, "full")
    assert {row.split for row in rows} == {"train", "dev"}
    assert 5 < sum(row.split == "dev" for row in rows) < 32
    assert len({row.sha256 for row in rows}) == 60
    for row in rows:
        assert all(scenes.is_true(text, listing[row.image.name]) for text in row.references)
    again = scenes.write(tmp_path / "again", 60, seed=2, world="full", dev_share=0.3, side=64)
    assert manifest.content_hash(manifest.load(again)) == manifest.content_hash(rows)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"a.jpg": {"things": [{}], "seed": 1}}', '{"a.jpg": null}'])
def test_damaged_scenes_are_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "scenes.json").write_text(content)
    with pytest.raises(DataError, match="scene"):
        scenes.load_scenes(tmp_path)


def test_scene_json_round_trip() -> None:
    assert Scene.from_json(json.loads(json.dumps(PAIR.to_json()))) == PAIR


def test_neither_scenes_nor_gate_nor_metrics_import_torch_or_nltk() -> None:
    modules = "training.data.scenes, training.gate.gate, training.metrics"
    code = f"import sys, {modules}; print({{'torch', 'nltk'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
