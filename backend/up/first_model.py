"""The model that drafts from the start: a checkpoint that the user gives, or a starter, for photos or for scenes."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from backend.domain.errors import CaptionerError, RegistryError
from backend.store.registry import ModelVersion, Registry
from backend.up.steps import say, step
from training.captioner import bundled
from training.captioner.checkpoint import check_sums
from training.runtime.files import atomic_folder
from training.runtime.processes import end_with_parent

STARTER = "starter-v1"
"""The captioner of generated scenes."""
_BY = "up"


def adopt(registry: Registry, checkpoint: Path, data_dir: Path) -> str:
    """Copy the user's checkpoint into the data folder and register it; its name contains a hash of its files.

    Raises CaptionerError and registers nothing when it is no checkpoint or fails to caption.
    """
    # The starter captioned before it was packed, and trying it takes seconds.
    is_whole_starter = checkpoint.resolve() == bundled.STARTER.resolve() and check_sums(checkpoint)
    try:
        digest = _digest(checkpoint)
    except OSError as error:
        raise CaptionerError(f"{checkpoint} is not a checkpoint: {error}. `captioner train` makes one.") from error
    name = f"{re.sub(r'[^a-z0-9]+', '-', checkpoint.name.lower()).strip('-') or 'own'}-{digest[:6]}"
    folder = data_dir / "models" / name
    if not folder.exists():
        with atomic_folder(folder) as unfinished:
            shutil.copytree(checkpoint, unfinished, dirs_exist_ok=True)
            if not is_whole_starter:
                with step(f"Testing the checkpoint {checkpoint}", f"The checkpoint {checkpoint} works"):
                    _try(unfinished, checkpoint)
    _register(registry, ModelVersion(name, folder))
    return name


def starter(registry: Registry, data_dir: Path, device: str) -> str:
    """Train the starter captioner on generated scenes, unless the data folder has one already."""
    folder = data_dir / "models" / STARTER
    scenes = data_dir / "starter-scenes"
    if not folder.exists():
        say("There is no model yet: a starter captioner is trained on generated scenes, once, in about two minutes.")
        with step("Training the starter captioner", "Starter captioner trained", spinner=False):
            first, *_ = device.split(",")  # so small a captioner gains nothing by several
            argv = [*_TRAINING, "train", "--scenes", "--data-dir", str(scenes), "--device", first]
            done = subprocess.run([*argv, "--out", str(folder)], check=False, preexec_fn=end_with_parent)
            if done.returncode:
                raise CaptionerError("The starter captioner could not be trained; the message above says why.")
    _register(registry, ModelVersion(STARTER, folder, manifest=scenes / "manifest.jsonl"))
    return STARTER


def promote(registry: Registry, project_id: int, version: str) -> None:
    """Promote the user's checkpoint, unless it is the one given last time: a retrain may have improved on it since.

    The starter is promoted where the project has had no champion before.
    """
    moves = registry.moves(project_id, limit=10_000)
    if version == STARTER and not moves:
        registry.promote(project_id, version, reason="there is no better model yet", by=_BY)
    elif version != STARTER and next((move.version for move in moves if move.moved_by == _BY), None) != version:
        registry.promote(project_id, version, reason="given to `captioner up`", by=_BY)


def promote_bundled(registry: Registry, project_id: int, data_dir: Path) -> str | None:
    """Promote the captioner of photographs that comes with the project where nothing drafts or ever drafted.

    Returns its name, or None where the project keeps what it has. Raises TrainingError where it is not installed.
    """
    if registry.champion(project_id) or registry.moves(project_id, limit=1):
        return None
    version = adopt(registry, bundled.starter(), data_dir)
    try:
        registry.promote(project_id, version, reason="it comes with the captioner", by=_BY, instead_of=None)
    except RegistryError:  # a person promoted another one meanwhile
        return None
    return version


_TRAINING = [sys.executable, "-P", "-m", "training.cli"]


def _digest(checkpoint: Path) -> str:
    """Hash of all its files: the same weights with another vocabulary are another checkpoint."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "vocabulary.json"):
        with (checkpoint / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _try(folder: Path, checkpoint: Path) -> None:
    """Caption a blank picture with it, in a child process so that this one does not import torch."""
    picture = folder.with_name(f"{folder.name}.png")
    Image.new("RGB", (64, 64), "grey").save(picture)
    try:
        argv = [*_TRAINING, "caption", str(folder), str(picture), "--device", "cpu"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, preexec_fn=end_with_parent)
    finally:
        picture.unlink()
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["it gave no reason"]
        reason = lines[-1].removeprefix("Error: ").replace(str(folder), str(checkpoint))
        raise CaptionerError(f"The checkpoint {checkpoint} fails to caption: {reason}")


def _register(registry: Registry, version: ModelVersion) -> None:
    if all(known.name != version.name for known in registry.versions()):
        registry.register(version)
