"""The model that drafts from the start: a checkpoint of the user's own, or the starter for generated scenes."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from backend.errors import CaptionerError
from backend.registry import ModelVersion, Registry
from backend.up.steps import say, step

STARTER = "starter-v1"


def adopt(registry: Registry, checkpoint: Path, data_dir: Path) -> str:
    """Copy the user's checkpoint into the data folder and register it; its name holds a hash of its weights."""
    try:
        with (checkpoint / "model.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CaptionerError(f"{checkpoint} is not a checkpoint: {error}. `captioner train` makes one.") from error
    name = f"{re.sub(r'[^a-z0-9]+', '-', checkpoint.name.lower()).strip('-') or 'own'}-{digest[:6]}"
    folder = data_dir / "models" / name
    if not folder.exists():
        unfinished = folder.with_name(f".{name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(checkpoint, unfinished)
        unfinished.rename(folder)
    _register(registry, ModelVersion(name, folder))
    return name


def starter(registry: Registry, data_dir: Path) -> str:
    """Train the starter captioner on generated scenes, unless the data folder has it."""
    folder = data_dir / "models" / STARTER
    scenes = data_dir / "starter-scenes"
    if not folder.exists():
        say("No model yet: the starter captioner is trained on generated scenes, once, within two minutes.")
        with step("Training the starter captioner", "Starter captioner trained", spinner=False):
            argv = [sys.executable, "-m", "training.cli", "train", "--scenes", "--data-dir", str(scenes)]
            if subprocess.run([*argv, "--out", str(folder)], check=False).returncode:
                raise CaptionerError("The starter captioner could not be trained; its own message stands above.")
    _register(registry, ModelVersion(STARTER, folder, manifest=scenes / "manifest.jsonl"))
    return STARTER


def promote_once(registry: Registry, project_id: int, version: str) -> None:
    """Let it serve the project, unless it has before: the project may have learnt something better since."""
    if all(move.version != version for move in registry.moves(project_id, limit=10_000)):
        registry.promote(project_id, version, reason="given to `captioner up`", by="up")


def _register(registry: Registry, version: ModelVersion) -> None:
    if all(known.name != version.name for known in registry.versions()):
        registry.register(version)
