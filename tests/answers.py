"""What docs/commands.md says that `--json` answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from click.testing import Result

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """The keys of each command's answer by its words, and those of each entry in its only list."""
    table = PAGE.read_text().partition("| keys of its answer |")[2].split("\n\n")[0]
    found = {}
    for commands, keys in re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.M):
        own, _, each = re.sub(r"\(.*?\)", "", keys).partition(": each ")
        for command in re.findall(r"`(.+?)`", commands):
            found[command] = set(re.findall(r"`(\w+)`", own)), set(re.findall(r"`(\w+)`", each))
    return found


def answer(result: Result, command: str) -> Any:
    """The one JSON value on stdout, which has at least the documented keys."""
    value = json.loads(result.stdout)
    own, each = documented()[command]
    assert own
    assert set(value) >= own
    for entry in value[next(iter(own))] if each else ():
        assert set(entry) == each
    return value
