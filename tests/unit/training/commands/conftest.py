"""A tiny checkpoint, sixteen captioned pictures, and the commands as a user calls them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from training import cli
from training.captioner import bundled, checkpoint
from training.captioner.captioner import Captioner
from training.config import DecoderConfig
from training.data import manifest
from training.data.manifest import Row
from training.metrics import Score
from training.vocabulary import Style, Vocabulary

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of METEOR's jar, which takes ten seconds a call."""
    found = Score("METEOR", 33.0, "meteor|jar:1.5")
    monkeypatch.setattr("training.metrics.report.meteor", lambda hypotheses, references: found)


@pytest.fixture
def run() -> Run:
    """Calls `captioner` with arguments; an exception that a user would see as a traceback fails the test."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.fixture
def succeed(run: Run, tmp_path: Path) -> Run:
    """`run` on the CPU for what works."""

    def call(command: str, *arguments: object) -> Result:
        cache = () if command == "caption" else ("--cache-dir", tmp_path / "cache")
        result = run(command, *arguments, "--device", "cpu", *cache)
        assert result.exit_code == 0, result.output
        return result

    return call


@pytest.fixture
def fail(run: Run) -> Run:
    """`run` for what does not work: its one line of error."""

    def call(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code != 0, result.output
        [line] = [line for line in result.output.splitlines() if line.startswith("Error: ")]
        assert result.output.rstrip().endswith(line)
        return line

    return call


@pytest.fixture
def refuse(fail: Run, saved: Path, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`fail` in a folder of its own; SAVED stands for the checkpoint and LISTED for the manifest of the pictures."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        given = [argument.replace("SAVED", str(saved)).replace("LISTED", str(listed)) for argument in arguments]
        return fail(*given)

    return call


@pytest.fixture
def saved(tiny: Captioner, tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path / "saved", tiny)


@pytest.fixture
def starter(tiny: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the captioner that comes with the project."""
    monkeypatch.setattr(bundled, "STARTER", checkpoint.save(tmp_path / "installed" / "starter", tiny, half=True))
    return bundled.STARTER


@pytest.fixture
def blind(tiny: Captioner, tmp_path: Path) -> Path:
    """A checkpoint without attention."""
    config = DecoderConfig(embedding=16, hidden=32, heads=2, architecture="initial_state")
    words = Vocabulary.build(["a red picture", "nothing"])
    captioner = Captioner(tiny.encoder.config, config, tiny.transform, tiny.decoding, words, Style())
    return checkpoint.save(tmp_path / "blind", captioner)


@pytest.fixture
def listed(coloured_rows: list[Row], tmp_path: Path) -> Path:
    """A manifest with four dev images."""
    rows = [replace(row, split=manifest.DEV) if "3" in row.image.name else row for row in coloured_rows]
    return manifest.save(rows, tmp_path / "manifest.jsonl")


@pytest.fixture
def nocaps(coloured_rows: list[Row], tmp_path: Path) -> Path:
    """nocaps in small: four captioned dev images in two domains, four test images without captions."""
    folder = tmp_path / "nocaps"

    def put(split: str, name: str, rows: Sequence[Row], first: int, captioned: bool) -> None:
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for number, row in enumerate(rows, start=first):
            (folder / split / row.image.name).write_bytes(row.image.read_bytes())
            domain = "in-domain" if number % 2 else "out-domain"
            images.append({"id": number, "file_name": row.image.name, "domain": domain})
            annotations += [{"image_id": number, "caption": text} for text in row.references]
        listing = {"images": images} | ({"annotations": annotations} if captioned else {})
        (folder / name).write_text(json.dumps(listing))

    put("val", "nocaps_val_4500_captions.json", coloured_rows[:4], 1, captioned=True)
    put("test", "nocaps_test_image_info.json", coloured_rows[4:8], 101, captioned=False)
    return folder
