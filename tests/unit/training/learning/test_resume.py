"""A training that was stopped in the middle goes on as if nothing had happened."""

import errno
import logging
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training.conftest import curve
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.learning.resume import Resume, TrainingState
from training.learning.train import Progress
from training.learning.train import train as train_captioner

Start = Callable[..., subprocess.Popen[str]]


class StoppedError(Exception):
    """Stands for whatever ends a training."""


@pytest.fixture
def rows(coloured_rows: list[Row]) -> list[Row]:
    return [replace(row, split=manifest.DEV) if "3" in row.image.name else row for row in coloured_rows]


@pytest.fixture
def config(tiny_config: TrainingConfig) -> TrainingConfig:
    """Everything that one epoch could leave to the next."""
    return replace(
        tiny_config,
        frozen_epochs=1,
        epochs=3,
        self_critical_epochs=2,
        learning_rate=1e-2,
        dropout=0.2,
        scheduled_sampling=0.3,
        captions_per_image=1,
    )


def train(
    rows: Sequence[Row], out: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, stop: str = ""
) -> None:
    """To the end, or until after the step called like "reward 2 1". Where it stands is saved after every epoch."""

    def follow(progress: Progress) -> None:
        if stop == f"{progress.phase} {progress.epoch} {progress.step}":
            raise StoppedError

    assert Resume.__init__.__kwdefaults__
    monkeypatch.setitem(Resume.__init__.__kwdefaults__, "every_seconds", 0.0)
    arguments = {"cache_dir": out.parent / "cache", "progress": follow, "device": "cpu"}
    if stop:
        with pytest.raises(StoppedError):
            train_captioner(rows, out, config, **arguments)  # type: ignore[arg-type]
        assert state_of(out).exists()
        assert not out.exists()
    else:
        train_captioner(rows, out, config, **arguments)  # type: ignore[arg-type]


def state_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.unfinished") / "state.pt"


def alike(one: Path, other: Path) -> bool:
    """The same curve to the last bit, and the same weights."""
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    return curve(one) == curve(other) and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_end(
    rows: list[Row],
    config: TrainingConfig,
    tmp_path: Path,
    start_training: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    killed = {
        start_training(rows, tmp_path / name, config, die=die): tmp_path / name
        for name, die in (("first", "train 3 2"), ("second", "reward 2 2"))
    }
    train(rows, tmp_path / "whole", config, monkeypatch)
    assert [entry["stage"] for entry in curve(tmp_path / "whole")] == ["frozen", *["train"] * 3, *["reward"] * 2]
    for (process, out), epochs in zip(killed.items(), (3, 5), strict=True):
        said, _ = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, said
        assert not out.exists()
        with caplog.at_level(logging.WARNING):
            train(rows, out, config, monkeypatch)
        assert f"Resuming after {epochs} epochs" in caplog.text
        assert alike(tmp_path / "whole", out)
        assert not state_of(out).parent.exists()


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["frozen 1 1", "train 1 1", "train 2 3", "reward 1 1", "reward 2 3"])
def test_wherever_it_stops_it_goes_on_to_the_same_end(
    rows: list[Row], config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    train(rows, tmp_path / "whole", config, monkeypatch)
    out = tmp_path / "stopped"
    if stop == "frozen 1 1":  # nothing to go on from
        with pytest.raises(AssertionError):
            train(rows, out, config, monkeypatch, stop)
    else:
        train(rows, out, config, monkeypatch, stop)
    train(rows, out, config, monkeypatch)
    assert alike(tmp_path / "whole", out)


@pytest.mark.slow
def test_without_dev_rows_too(
    coloured_rows: list[Row], config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(coloured_rows, tmp_path / "whole", config, monkeypatch)
    train(coloured_rows, tmp_path / "stopped", config, monkeypatch, "reward 1 1")
    train(coloured_rows, tmp_path / "stopped", config, monkeypatch)
    assert alike(tmp_path / "whole", tmp_path / "stopped")


def test_a_damaged_state_is_reported_and_the_training_starts_again(
    rows: list[Row],
    config: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    short = replace(config, frozen_epochs=0, epochs=2, self_critical_epochs=0)
    train(rows, tmp_path / "whole", short, monkeypatch)
    out = tmp_path / "damaged"
    train(rows, out, short, monkeypatch, "train 2 2")
    state_of(out).write_bytes(state_of(out).read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        train(rows, out, short, monkeypatch)
    assert "state.pt cannot be read" in caplog.text
    assert "starts again" in caplog.text
    assert alike(tmp_path / "whole", out)
    assert not state_of(out).parent.exists()


@pytest.mark.parametrize("other", ["config", "rows"])
def test_another_training_is_not_gone_on_from(
    rows: list[Row], config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    short = replace(config, frozen_epochs=0, epochs=2, self_critical_epochs=0)
    out = tmp_path / "stopped"
    train(rows, out, short, monkeypatch, "train 2 2")
    if other == "config":
        short = replace(short, seed=2)
    else:
        rows = [replace(rows[0], references=("something else",)), *rows[1:]]
    train(rows, tmp_path / "whole", short, monkeypatch)
    train(rows, out, short, monkeypatch)
    assert alike(tmp_path / "whole", out)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_state_that_cannot_be_written_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def full(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", full)
    Resume(tmp_path / "out", "a training", writes=True, every_seconds=0).save(TrainingState(epoch=1))
    assert "state.pt cannot be written" in caplog.text
    assert "the training goes on" in caplog.text


def test_a_short_training_writes_nothing_down(tmp_path: Path) -> None:
    resume = Resume(tmp_path / "out", "a training", writes=True)
    resume.save(TrainingState(epoch=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writes", [True, False])
def test_only_one_process_writes_and_clears_away(tmp_path: Path, writes: bool) -> None:
    leader = Resume(tmp_path / "out", "a training", writes=True, every_seconds=0)
    leader.save(TrainingState(stage=1, epoch=4))
    resume = Resume(tmp_path / "out", "a training", writes=writes, every_seconds=0)
    resume.save(TrainingState(stage=1, epoch=5))
    assert resume.load().epoch == (5 if writes else 4)
    resume.finish()
    assert list(tmp_path.iterdir()) == ([] if writes else [state_of(tmp_path / "out").parent])


def test_the_best_is_what_scored_best() -> None:
    def considered(name: str, *scores: float) -> TrainingState:
        state = TrainingState()
        for number, score in enumerate(scores):
            weights = {"number": torch.tensor(number)}
            state.consider({"dev_loss": 9.0, "dev_cider_d": 9.0, name: score}, name, weights.copy)
        return state

    by_loss, by_score = considered("dev_loss", 3.0, 2.0, 2.0, 2.5), considered("dev_cider_d", 0.1, 0.4, 0.3)
    by_score.consider({}, "dev_cider_d", dict)
    assert by_loss.best == by_score.best == {"number": torch.tensor(1)}
