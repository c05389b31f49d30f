"""Scenes on disk: pictures, a manifest, and the scenes themselves, with which captions can be checked."""

from __future__ import annotations

import json
from pathlib import Path

from training.data import manifest
from training.data.scenes.drawing import draw
from training.data.scenes.grammar import captions
from training.data.scenes.world import Scene, generate
from training.errors import DataError


def write(folder: Path, count: int, seed: int, world: str = "starter", dev_share: float = 0.1, side: int = 128) -> Path:
    """Draw `count` scenes into `folder`; returns the path of the manifest, which is written last.

    About `dev_share` of the rows, chosen by the images' hashes, have the split dev, the others train.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scenes: dict[str, Scene] = {}
    rows = []
    for number, scene in enumerate(generate(count, seed, world)):
        name = f"scene-{seed}-{number:05d}.jpg"
        draw(scene, side).save(folder / name, quality=92, subsampling=0)
        scenes[name] = scene
        sha256 = manifest.hash_file(folder / name)
        split = manifest.DEV if manifest.split_position(sha256) < dev_share else manifest.TRAIN
        rows.append(manifest.Row(folder / name, sha256, tuple(captions(scene, seed)), split))
    listing = {name: scene.to_json() for name, scene in scenes.items()}
    (folder / "scenes.json").write_text(json.dumps(listing), encoding="utf-8")
    return manifest.save(rows, folder / "manifest.jsonl")


def load_scenes(folder: Path) -> dict[str, Scene]:
    """The scenes that `write` wrote, by file name. Raises DataError when they are missing or damaged."""
    path = folder / "scenes.json"
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        return {name: Scene.from_json(value) for name, value in listing.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"The scenes of {folder} cannot be read from {path.name}: {error}.") from error
