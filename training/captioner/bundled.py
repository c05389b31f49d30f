"""The starter: the captioner of photographs that comes with the project, in the checkpoint folder beside this file."""

from __future__ import annotations

from pathlib import Path

from training.errors import CheckpointError

STARTER = Path(__file__).with_name("starter")


def starter() -> Path:
    """Its folder. Raises CheckpointError where the installation lacks it."""
    if not STARTER.is_dir():
        raise CheckpointError(
            f"The starter, the captioner that comes with this project, is missing in {STARTER.parent}: "
            "install the project again, or give a checkpoint of your own."
        )
    return STARTER
