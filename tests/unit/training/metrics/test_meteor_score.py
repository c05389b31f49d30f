import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.metrics.corpora import HYPOTHESES, REFERENCES
from training.metrics import MetricUnavailableError, meteor, meteor_score
from training.metrics.meteor_score import jar_lacks

# pycocoevalcap 1.2's Meteor (METEOR 1.5, OpenJDK 17) on ROWS.
RECORDED = 33.164276


class Synonyms:
    """What METEOR asks of WordNet, with one set of synonyms."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def ensure_loaded(self) -> None:
        pass

    def synsets(self, word: str) -> list["Synonyms"]:
        return [self] if word in self.words else []

    def lemmas(self) -> list[Any]:
        return [Lemma(word) for word in self.words]


class Lemma:
    def __init__(self, word: str) -> None:
        self.word = word

    def name(self) -> str:
        return self.word


class Absent:
    def ensure_loaded(self) -> None:
        raise LookupError("Resource wordnet not found.")


def without_java(monkeypatch: pytest.MonkeyPatch, wordnet: object) -> None:
    import nltk.corpus

    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(nltk.corpus, "wordnet", wordnet)


def java(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `java` be a shell script and the jar be there."""
    program = folder / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(meteor_score, "_jar", lambda: folder / "meteor.jar")


@pytest.mark.slow
@pytest.mark.skipif(bool(jar_lacks()), reason=f"METEOR's jar needs {jar_lacks()}")
def test_meteor_by_the_jar_is_that_of_pycocoevalcap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a locale that writes 0,5 too, which these options stand for: they work where it is not installed."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE")
    score = meteor(HYPOTHESES, REFERENCES)
    assert score.value == pytest.approx(RECORDED, abs=1e-4)
    assert score.signature == "meteor|jar:1.5|lang:en|norm|tok:captioner-1"


def test_the_jar_is_asked_for_each_image_and_then_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    told = "EVAL*) echo 0.1; echo 0.9; echo 0.25;; *) echo 1 2;;"
    talk = f'while IFS= read -r line; do echo "$line" >> {asked}; case $line in {told} esac; done'
    java(tmp_path, monkeypatch, f'case "$*" in *-Duser.language=en\\ -Duser.country=US*-jar*) {talk};; esac')
    assert meteor(["A dog.", ""], [["The dog!", "a hund größer"], ["cat"]]).value == 25
    assert asked.read_text().splitlines() == [
        "SCORE ||| the dog ||| a hund größer ||| a dog",
        "SCORE ||| cat ||| ",
        "EVAL ||| 1 2 ||| 1 2",
    ]


def test_a_jar_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/id; exec sleep 100")
    monkeypatch.setattr(meteor_score, "START_SECONDS", 1.0)
    monkeypatch.setattr(meteor_score, "IMAGE_SECONDS", 0.0)
    started = time.monotonic()
    with pytest.raises(MetricUnavailableError, match="took over 1 seconds"):
        meteor(["a dog"], [["a dog"]])
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)


@pytest.mark.parametrize("script", ["exit 1", "read line; echo no numbers; read line; echo Error: no; echo; read line"])
def test_a_jar_that_ends_or_talks_nonsense_is_no_score(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java(tmp_path, monkeypatch, script)
    with pytest.raises(MetricUnavailableError, match=r"see what `.*java .*meteor.jar .*` says"):
        meteor(["a dog"] * 500, [["a dog"]] * 500)


@pytest.mark.parametrize("failing", ["SCORE", "EVAL"])
def test_the_command_that_is_suggested_shows_the_fault(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my jars"
    folder.mkdir()
    fails = f"{failing}*) echo no comma, please >&2; exit 1;;"
    java(folder, monkeypatch, f"while read line; do case $line in {fails} *) echo 1 2;; esac; done")
    with pytest.raises(MetricUnavailableError) as caught:
        meteor(["a dog"], [["a dog"]])
    command = str(caught.value).split("`")[1]
    shown = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=20)
    assert shown.stderr == "no comma, please\n"
    assert "-Duser.language=en" in command


def test_without_java_meteor_is_nltks_with_wordnet_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without_java(monkeypatch, Synonyms("sofa", "couch"))
    score = meteor(["a cat on the sofa", "runs", ""], [["a cat on the couch"], ["a dog", "dogs running"], ["a"]])
    # All five words in one run: precision and recall 1, penalty 0.5 / 5³. "runs" and "running" have a stem in common:
    # precision 1, recall 1/2, penalty 0.5.
    whole, half = 1 - 0.5 / 125, 0.5 * (0.5 / (0.9 + 0.1 * 0.5))
    assert score.value == pytest.approx(100 * (whole + half) / 3)
    assert score.signature.startswith("meteor|nltk:")
    assert score.signature.endswith("|wordnet|tok:captioner-1")


def test_with_neither_meteor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without_java(monkeypatch, Absent())
    with pytest.raises(MetricUnavailableError, match=r"METEOR needs Java .*nltk.downloader wordnet"):
        meteor(["a dog"], [["a dog"]])


def test_all_that_the_jar_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(meteor_score, "find_spec", lambda name: None)
    assert jar_lacks() == ("Java (apt-get install default-jre-headless) and pycocoevalcap (pip install pycocoevalcap)")
