"""METEOR's Java program, which pycocoevalcap brings along: started, asked line by line, always ended."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

from training.metrics.score import MetricUnavailableError

RELEASE = "1.5"
START_SECONDS = 120.0
"""What loading the paraphrases may take; ten on a busy machine of two cores."""
IMAGE_SECONDS = 0.5
"""What each image may add; milliseconds as a rule."""


def jar_lacks() -> str:
    """What to install before `score_by_jar` can run; empty when nothing is lacking."""
    java = [] if shutil.which("java") else ["Java (apt-get install default-jre-headless)"]
    return " and ".join(java + ([] if _jar() else ["pycocoevalcap (pip install pycocoevalcap)"]))


def score_by_jar(said: list[list[str]], expected: list[list[list[str]]]) -> float:
    """METEOR of the corpus from 0 to 1, as the program adds it up: matches of all images are counted together.

    `said[i]` are the words of a hypothesis, possibly none, and `expected[i]` those of its references. Raises
    MetricUnavailableError when the program ends early, takes too long or answers with something else.
    """
    seconds = START_SECONDS + IMAGE_SECONDS * len(said)
    # Java reads text in the locale's encoding unless told, and would lose letters in a container without a locale.
    options = ["-Dfile.encoding=UTF-8", "-Xmx2G"]
    command = ["java", *options, "-jar", str(_jar()), "-", "-", "-stdio", "-l", "en", "-norm"]
    try:
        # Not pycocoevalcap's own wrapper: that one waits for ever for a program that hangs.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
        ) as program:
            watchdog = Timer(seconds, program.kill)
            watchdog.start()
            try:
                return _converse(program, said, expected)
            finally:
                watchdog.cancel()
                program.kill()
    except (OSError, ValueError) as error:
        raise MetricUnavailableError(
            f"METEOR's Java program failed or took over {seconds:.0f} seconds; see what `{' '.join(command)}` says."
        ) from error


def _converse(program: subprocess.Popen[str], said: list[list[str]], expected: list[list[list[str]]]) -> float:
    """Statistics of each image, then what they make. Raises OSError or ValueError when the program does not answer."""
    statistics = []
    for words, captions in zip(said, expected, strict=True):
        # The hypothesis comes last, and no words are still a field: references alone would be an error.
        _tell(program, "SCORE", *(" ".join(caption) for caption in captions), " ".join(words))
        statistics.append(_hear(program))
    _tell(program, "EVAL", *statistics)
    # A score for each image, then that of all.
    return [float(_hear(program)) for _ in range(len(said) + 1)][-1]


def _tell(program: subprocess.Popen[str], *fields: str) -> None:
    assert program.stdin is not None
    program.stdin.write(" ||| ".join(fields) + "\n")
    program.stdin.flush()


def _hear(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    line = program.stdout.readline()
    if not line:
        raise ValueError("The program has ended.")
    return line.strip()


def _jar() -> Path | None:
    """pycocoevalcap's copy of the program; None where there is none."""
    # The package is found, not imported: nothing of it is needed but this file.
    spec = find_spec("pycocoevalcap")
    folders = spec.submodule_search_locations if spec else None
    jars = [Path(folder) / "meteor" / f"meteor-{RELEASE}.jar" for folder in folders or ()]
    return next((jar for jar in jars if jar.is_file()), None)
