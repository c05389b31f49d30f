"""Commands for people, as they must be typed to reach the same data folder."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def typed(data_dir: Path, *words: str) -> str:
    """`captioner` with these words, over this data folder: by its path where the shell would not find it."""
    program = Path(sys.argv[0]).absolute()
    found = shutil.which("captioner")
    here = program.name == "captioner" and (found is None or Path(found).absolute() != program)
    return shlex.join([str(program) if here else "captioner", *words, "--data-dir", str(data_dir)])
