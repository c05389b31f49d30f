"""What a running `up` leaves in its data folder for other commands: addresses, login, the settings it runs with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from training.runtime.files import atomic_file


def save(data_dir: Path, state: dict[str, Any]) -> None:
    """Say that `up` is ready. The file holds passwords, so only its owner may read it."""
    with atomic_file(_path(data_dir), private=True) as unfinished:
        unfinished.write_text(json.dumps(state))


def running(data_dir: Path) -> dict[str, Any] | None:
    """What the `up` that is ready over this folder said; None when none is."""
    try:
        state = dict(json.loads(_path(data_dir).read_text()))
        os.kill(state["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return state


def forget(data_dir: Path) -> bool:
    """Whether there was anything to forget, which after a start means that the `up` before was killed."""
    try:
        _path(data_dir).unlink()
    except FileNotFoundError:
        return False
    return True


def banner(state: dict[str, Any]) -> str:
    """The state for people: where to go and how to log in."""
    lines = []
    if "label_studio_url" in state:
        lines += [
            f"  Label Studio  {state['label_studio_url']}/projects/{state['project']}/data",
            f"  login         {state['email']}",
            f"  password      {state['password']}",
        ]
    lines += [f"  ML backend    {state['backend_url']}", "  what it does  captioner status", "  stop          Ctrl-C"]
    return "\n".join(lines)


def _path(data_dir: Path) -> Path:
    return data_dir / "run" / "up.json"
