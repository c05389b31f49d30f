"""What docker-compose.yml says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()


def compose() -> dict[str, Any]:
    """The file as Docker Compose reads it where no variable is set: `${NAME:-default}`, and `$$` for a dollar."""
    found: dict[str, Any] = _filled(yaml.safe_load(TEXT))
    return found


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each) for each in value]
    if isinstance(value, str):
        return re.sub(r"\$\$|\$\{\w+:-([^}]*)\}", lambda match: match[1] if match[0] != "$$" else "$", value)
    return value
