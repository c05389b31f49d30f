"""The file that a running `up` keeps for other commands: its addresses, login and settings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from backend.system.typed import typed
from training.runtime.files import atomic_file


def save(data_dir: Path, state: dict[str, Any]) -> None:
    """Write the file, which says that `up` is ready. Only its owner may read it, because it has passwords."""
    with atomic_file(_path(data_dir), private=True) as unfinished:
        unfinished.write_text(json.dumps(state))


def running(data_dir: Path) -> dict[str, Any] | None:
    """The state of the `up` that runs over this folder; None when none runs."""
    try:
        state = dict(json.loads(_path(data_dir).read_text()))
        os.kill(state["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state


def forget(data_dir: Path) -> bool:
    """Remove the file. Returns whether there was one, which at a start means that the last `up` was killed."""
    existed = _path(data_dir).exists()
    _path(data_dir).unlink(missing_ok=True)
    return existed


def banner(state: dict[str, Any], data_dir: Path) -> str:
    """The state as lines for people: addresses, login and the next command."""
    lines = []
    if "label_studio_url" in state:
        lines += [
            f"  Label Studio  {state['label_studio_url']}/projects/{state['project']}/data",
            f"  login         {state['email']}",
            f"  password      {state['password']}",
        ]
    lines += [
        f"  ML backend    {state['backend_url']} (its status page, in a browser)",
        f"  status        {typed(data_dir, 'status')}",
        "  stop          Ctrl-C",
    ]
    return "\n".join(lines)


def _path(data_dir: Path) -> Path:
    return data_dir / "run" / "up.json"
