import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from training import checkpoint, cli, manifest
from training.manifest import Row
from training.model import Captioner


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def saved(tiny: Captioner, tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path / "saved", tiny)


@pytest.fixture
def listed(coloured_rows: list[Row], tmp_path: Path) -> Path:
    rows = [replace(row, split=manifest.DEV) if "3" in row.image.name else row for row in coloured_rows]
    return manifest.save(rows, tmp_path / "manifest.jsonl")


@pytest.mark.parametrize("command", ["train", "evaluate", "caption"])
def test_help_shows_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"captioner {command} " in result.output.partition("Example:")[2]


def test_train_evaluate_caption(listed: Path, tmp_path: Path) -> None:
    out, cache, image = tmp_path / "out", tmp_path / "cache", tmp_path / "blue-3.png"
    common = ("--cache-dir", cache, "--device", "cpu")
    trained = run("train", "--manifest", listed, "--encoder", "small_cnn", "--epochs", 1, "--out", out, *common)
    assert trained.exit_code == 0, trained.output
    assert f"The checkpoint is in {out}: 12 images" in trained.output
    again = run("train", "--manifest", listed, "--start-from", out, "--epochs", 1, "--out", tmp_path / "next", *common)
    assert again.exit_code == 0, again.output

    scores = tmp_path / "scores.json"
    judged = run("evaluate", out, "--manifest", listed, "--split", "dev", "--json", scores, *common)
    assert judged.exit_code == 0, judged.output
    assert "BLEU-4" in judged.output
    result = json.loads(scores.read_text())
    assert [item["image"] for item in result["images"]] == [
        f"{name}-3.png" for name in ("red", "green", "blue", "white")
    ]
    assert set(result["scores"]) == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"}

    told = run("caption", out, image, "--device", "cpu")
    assert told.exit_code == 0, told.output
    assert told.output.startswith(f"{image}\t")


def test_caption_tells_what_failed_and_goes_on(saved: Path, tmp_path: Path, coloured_rows: list[Row]) -> None:
    result = run("caption", saved, tmp_path / "absent.png", coloured_rows[0].image, "--device", "cpu")
    assert result.exit_code == 1
    assert f"{coloured_rows[0].image}\t" in result.output
    assert "absent.png cannot be read" in result.output
    assert "Error: 1 of 2 images could not be captioned." in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train", "--out", "out"), "Give --dataset with --data-dir, or --manifest."),
        (("train", "--manifest", "absent.jsonl", "--out", "out"), "absent.jsonl"),
        (("train", "--manifest", "LISTED", "--encoder", "vgg", "--out", "out"), "encoder.name is 'vgg'"),
        (("train", "--manifest", "LISTED", "--start-from", "absent", "--out", "out"), "no checkpoint folder absent"),
        (("train", "--scenes", "--epochs", "0", "--out", "out"), "epochs is 0"),
        (("evaluate", "absent", "--manifest", "LISTED"), "no checkpoint folder absent"),
        (("evaluate", "SAVED", "--manifest", "LISTED", "--beam", "0", "--device", "cpu"), "beam is 0"),
        (("caption", "SAVED", "x.png", "--device", "tpu"), "no device called 'tpu'"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: tuple[str, ...],
    says: str,
    saved: Path,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    stand_ins = {"SAVED": saved, "LISTED": listed}
    result = run(*(stand_ins.get(argument, argument) for argument in arguments))
    assert result.exit_code != 0
    [line] = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert says in line
    assert not (tmp_path / "out").exists()


def test_importing_the_commands_imports_no_torch() -> None:
    code = "import sys, training.cli; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
