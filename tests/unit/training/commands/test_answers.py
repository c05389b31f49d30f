"""`--json` of the commands that work without Label Studio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.answers import answer
from tests.unit.training.commands.conftest import Run
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.data.manifest import Row


def test_captions_are_answered_as_json(succeed: Run, saved: Path, coloured_rows: list[Row]) -> None:
    image = coloured_rows[0].image
    for flags in (["--json"], ["--json", "-"], ["--json", "--beam", 2]):
        [entry] = answer(succeed("caption", saved, image, *flags), "caption")["images"]
        assert (entry["image"], len(entry["captions"])) == (str(image), 1)


def test_an_image_is_no_place_for_captions(fail: Run, coloured_rows: list[Row]) -> None:
    image, other = (row.image for row in coloured_rows[:2])
    before = image.read_bytes()
    assert "is no .json file: write --json - for standard output" in fail("caption", "--json", image, other)
    assert image.read_bytes() == before


def test_what_could_be_captioned_is_answered_beside_what_could_not(
    run: Run, saved: Path, coloured_rows: list[Row]
) -> None:
    result = run("caption", saved, "absent.png", coloured_rows[0].image, "--json", "--device", "cpu")
    assert result.exit_code == 1
    assert ["error" in each for each in answer(result, "caption")["images"]] == [True, False]
    assert result.stderr.splitlines()[-1] == "Error: 1 of 2 images could not be captioned."


def test_scores_are_answered_as_json(succeed: Run, saved: Path, blind: Path, listed: Path) -> None:
    source = ("--manifest", listed, "--split", "dev", "--json")
    assert answer(succeed("evaluate", saved, *source), "evaluate")["checkpoint"] == "saved"
    compared = answer(succeed("compare", saved, blind, *source), "compare")
    assert [each["checkpoint"] for each in compared["checkpoints"]] == [str(saved), str(blind)]


def test_a_training_is_answered_as_json(
    succeed: Run, tiny: Captioner, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(rows: list[Row], out: Path, *_: Any, **__: Any) -> None:
        checkpoint.save(out, tiny, extra={"images": len(rows), "seconds": 2.5})

    monkeypatch.setattr("training.learning.train.train", fit)
    result = succeed("train", "--manifest", listed, "--encoder", "small_cnn", "--out", tmp_path / "out", "--json")
    assert answer(result, "train") == {"checkpoint": str(tmp_path / "out"), "images": 16, "seconds": 2.5}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("caption", "absent.png", "--json"), 1),
        (("caption", "absent.png", "--json", "--beam", "no"), 2),
        (("evaluate", "absent", "--json", "-"), 1),
        (("compare", "starter", "--json"), 2),
    ],
)
def test_an_error_is_answered_as_json(run: Run, arguments: tuple[str, ...], status: int) -> None:
    result = run(*arguments)
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (status, f"Error: {error}")


def test_an_error_is_a_sentence_alone_where_json_goes_to_a_file(run: Run, tmp_path: Path) -> None:
    for flags in (["--json", tmp_path / "x.json"], ["--json", tmp_path / "x.json", "--beam", "no"]):
        result = run("caption", "absent.png", *flags)
        assert (result.exit_code > 0, result.stdout) == (True, "")
