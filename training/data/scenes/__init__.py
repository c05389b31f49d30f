"""Generated scenes with captions whose truth can be checked: data for the demo, the starter captioner and tests.

A scene has one to three coloured shapes. `world` generates scenes, `drawing` draws them, `grammar` lists the sentences
that are true of a scene, and `folder` writes pictures and captions as a data set.
"""

from training.data.scenes.drawing import draw
from training.data.scenes.folder import load_scenes, write
from training.data.scenes.grammar import captions, closest, is_true, phrasings
from training.data.scenes.world import WORLDS, Scene, Thing, generate

__all__ = [
    "WORLDS",
    "Scene",
    "Thing",
    "captions",
    "closest",
    "draw",
    "generate",
    "is_true",
    "load_scenes",
    "phrasings",
    "write",
]
