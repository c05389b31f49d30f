"""METEOR: words aligned with a reference's, also by stem and synonym, in as few unbroken runs as possible.

Its Java program from pycocoevalcap runs as a child process that is always ended.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

from training.metrics.score import MetricUnavailableError, Score, corpus_score, split

RELEASE = "1.5"
START_SECONDS = 120.0
"""Limit for loading the paraphrases, which takes ten on a busy machine of two cores."""
IMAGE_SECONDS = 0.5
"""What each image adds to the limit; it usually takes milliseconds."""

_TRIAL = rf"SCORE ||| a dog ||| a dog\nEVAL ||| {' '.join(['1.0'] * 23)}\n"
"""What every use of the program sends, for a trial by hand."""


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """METEOR x100 by the jar of pycocoevalcap where it can run, else by nltk. The signature says which.

    The jar is METEOR 1.5 for English (Denkowski and Lavie, 2014), the one that captioning papers report. nltk's is an
    older formula (Lavie and Agarwal, 2007) with WordNet's synonyms, averaged over images: other numbers. Raises
    MetricUnavailableError where neither can run, TrainingError for anything that would be scored silently wrong.
    """
    tokens, expected = split(hypotheses, references)
    if lacking := jar_lacks():
        value, how = _by_nltk(tokens, expected, lacking)
    else:
        value, how = score_by_jar(tokens, expected), f"jar:{RELEASE}|lang:en|norm"
    return corpus_score("METEOR", 100 * value, f"meteor|{how}", references)


def _by_nltk(tokens: list[list[str]], expected: list[list[list[str]]], lacking: str) -> tuple[float, str]:
    """The score from 0 to 1 and how it was computed. Raises MetricUnavailableError without WordNet."""
    import nltk
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import meteor_score

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise MetricUnavailableError(
            f"METEOR needs {lacking}; or, for nltk's older formula, WordNet (python -m nltk.downloader wordnet)."
        ) from error
    each = [meteor_score(captions, words, wordnet=wordnet) for words, captions in zip(tokens, expected, strict=True)]
    release = ".".join(nltk.__version__.split(".")[:2])
    return sum(each) / len(each), f"nltk:{release}|wordnet"


def jar_lacks() -> str:
    """What to install before `score_by_jar` can run; empty when nothing is missing."""
    java = [] if shutil.which("java") else ["Java (apt-get install default-jre-headless)"]
    return " and ".join(java + ([] if _jar() else ["pycocoevalcap (pip install pycocoevalcap)"]))


def score_by_jar(candidates: list[list[str]], expected: list[list[list[str]]]) -> float:
    """METEOR of the corpus from 0 to 1, as the program adds it up: matches of all images are counted together.

    `candidates[i]` are the words of a hypothesis, possibly none, and `expected[i]` those of its references. Raises
    MetricUnavailableError when the program ends early, takes too long or answers with something else.
    """
    seconds = START_SECONDS + IMAGE_SECONDS * len(candidates)
    # Java reads text in the locale's encoding by default, and would lose letters in a container without a locale. In a
    # locale that writes 0,5 the program cannot read the statistics it has written itself.
    options = ["-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US", "-Xmx2G"]
    command = ["java", *options, "-jar", str(_jar()), "-", "-", "-stdio", "-l", "en", "-norm"]
    try:
        # Not pycocoevalcap's own wrapper, which waits for ever for a program that hangs.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
        ) as program:
            watchdog = Timer(seconds, program.kill)
            watchdog.start()
            try:
                return _run(program, candidates, expected)
            finally:
                watchdog.cancel()
                program.kill()
    except (OSError, ValueError) as error:
        raise MetricUnavailableError(
            f"METEOR's Java program failed or took over {seconds:.0f} seconds; see what "
            f"`printf '{_TRIAL}' | {shlex.join(command)}` says."
        ) from error


def _run(program: subprocess.Popen[str], candidates: list[list[str]], expected: list[list[list[str]]]) -> float:
    """Send statistics of each image, then ask for their score. Raises OSError or ValueError when no answer comes."""
    statistics = []
    for words, captions in zip(candidates, expected, strict=True):
        # The hypothesis is the last field, present even when it has no words: references alone would be an error.
        _send(program, "SCORE", *(" ".join(caption) for caption in captions), " ".join(words))
        statistics.append(_receive(program))
    _send(program, "EVAL", *statistics)
    # A score for each image, then that of all.
    return [float(_receive(program)) for _ in range(len(candidates) + 1)][-1]


def _send(program: subprocess.Popen[str], *fields: str) -> None:
    assert program.stdin is not None
    program.stdin.write(" ||| ".join(fields) + "\n")
    program.stdin.flush()


def _receive(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    line = program.stdout.readline()
    if not line:
        raise ValueError("The program has ended.")
    return line.strip()


def _jar() -> Path | None:
    """pycocoevalcap's copy of the program; None where there is none."""
    # The package is located, not imported: only this file of it is needed.
    spec = find_spec("pycocoevalcap")
    folders = spec.submodule_search_locations if spec else None
    jars = [Path(folder) / "meteor" / f"meteor-{RELEASE}.jar" for folder in folders or ()]
    return next((jar for jar in jars if jar.is_file()), None)
