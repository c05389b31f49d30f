"""Generated scenes with captions whose truth can be checked: the data of the demo and of the tests.

A scene is one to three coloured shapes. `world` says what may be in it, `drawing` makes the picture, `grammar` the
sentences that are true of it, `folder` puts pictures and captions on disk as a data set.
"""

from training.data.scenes.drawing import draw
from training.data.scenes.folder import load_scenes, write
from training.data.scenes.grammar import captions, closest, is_true, phrasings
from training.data.scenes.world import WORLDS, Group, Scene, Thing, World, generate, is_novel

__all__ = [
    "WORLDS",
    "Group",
    "Scene",
    "Thing",
    "World",
    "captions",
    "closest",
    "draw",
    "generate",
    "is_novel",
    "is_true",
    "load_scenes",
    "phrasings",
    "write",
]
