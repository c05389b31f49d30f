"""What the Dockerfile says, and its install steps run without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
INSTALLED = "/opt/captioner"


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        """What follows the word, for each step that begins with it."""
        return [rest for each, rest in self.steps if each == word]

    def last(self, word: str) -> list[str]:
        """The last of these steps, which is a JSON list."""
        found: list[str] = json.loads(self.of(word)[-1])
        return found


def stages(**arguments: str) -> dict[str, Stage]:
    """The stages by name, in order; the last one, which `docker build` makes, has the name of none: ``."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    given: dict[str, str] = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "ARG":
            name, _, default = rest.partition("=")
            given[name] = arguments.get(name, default)
        elif word == "FROM":
            base, _, name = re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], rest).partition(" AS ")
            stage = found[name] = Stage(base, name)
        elif word:
            stage.steps.append((word, rest))
    return found


def chain(name: str, **arguments: str) -> list[Stage]:
    """The stage and those below it, the lowest first."""
    known, found = stages(**arguments), []
    while name in known:
        found.append(known[name])
        name = known[name].base
    return found[::-1]


def replay(name: str, folder: Path, **arguments: str) -> Path:
    """Run what a stage installs, in a new folder in place of `/`; returns the folder of its environment.

    A virtual environment stands for the system's Python. Users are not added; uv's cache is used and nothing compiled
    ahead, so that it takes seconds where the packages are known. Raises CalledProcessError.
    """
    subprocess.run([sys.executable, "-m", "venv", folder / "python"], check=True)
    environ = {**os.environ, "PATH": f"{folder}/python/bin:/usr/bin:/bin", "VIRTUAL_ENV": f"{folder}{INSTALLED}"}
    for each in ("PYTHONPATH", "UV_SYSTEM_PYTHON", "PIP_REQUIRE_VIRTUALENV"):
        environ.pop(each, None)
    place = folder / "build"
    place.mkdir()
    for stage in chain(name, **arguments)[1:]:  # the first one adds the user
        for sources in stage.of("COPY"):
            *given, target = sources.split()
            for source in given:
                _copy(ROOT / source, place / target)
        for command in stage.of("RUN"):
            subprocess.run(
                ["bash", "-euc", command.replace(INSTALLED, f"{folder}{INSTALLED}")], cwd=place, env=environ, check=True
            )
    return folder / INSTALLED.lstrip("/")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def main() -> None:
    """Install what the image for GPUs holds, caption a picture with it, and say how large it is."""
    folder = Path(sys.argv[1])
    installed = replay("packages", folder, DEVICE="gpu")
    picture = ROOT / "tests" / "assets" / "checkpoints" / "1.jpg"
    subprocess.run([installed / "bin" / "captioner", "caption", picture], cwd=folder, check=True)
    size = subprocess.run(["du", "-sm", installed], capture_output=True, text=True, check=True).stdout.split()[0]
    print(f"The image's packages for GPUs: {size} MB")


if __name__ == "__main__":
    main()
