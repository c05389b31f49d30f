"""The names under which Label Studio holds the drafts of tasks that are to be labelled first."""

from __future__ import annotations

import re

_NAME = re.compile(r"(?P<version>.+)\.select-(?P<number>\d{1,9})")


def name_of(version: str, number: int) -> str:
    """The name of a selection among drafts by the version."""
    return f"{version}.select-{number}"


def version_of(name: str) -> str:
    """The version whose drafts are stored under the name: its own name, or that of a selection."""
    found = _NAME.fullmatch(name)
    return found["version"] if found else name


def number_of(name: str) -> int | None:
    """The number of the selection with the name; None for the name of a version."""
    found = _NAME.fullmatch(name)
    return int(found["number"]) if found else None
