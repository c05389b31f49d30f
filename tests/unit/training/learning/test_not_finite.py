"""A loss that is no finite number: its step leaves nothing behind, and a few of them end the training."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.conftest import curve
from training.captioner import checkpoint
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.learning.losses import Loss
from training.learning.resume import TrainingState
from training.learning.step import TrainingStep
from training.learning.train import train
from training.learning.trainer import Trainer
from training.networks import encoder

Spoil = Callable[[range, float], None]


@pytest.fixture
def rows(coloured_rows: list[Row]) -> list[Row]:
    """Three batches to learn from and one to choose by."""
    return [replace(row, split=manifest.DEV) if "3" in row.image.name else row for row in coloured_rows]


@pytest.fixture
def config(tiny_config: TrainingConfig) -> TrainingConfig:
    return replace(tiny_config, epochs=5)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Multiplies the losses of the steps with these numbers by a factor."""
    forward, taken = TrainingStep.forward, 0

    def spoiled(steps: range, factor: float) -> None:
        def spoiled_forward(self: TrainingStep, *arguments: object) -> list[Loss]:
            nonlocal taken
            taken += 1
            found = forward(self, *arguments)  # type: ignore[arg-type]
            return [(loss * factor, weight) for loss, weight in found] if taken in steps else found

        monkeypatch.setattr(TrainingStep, "forward", spoiled_forward)

    return spoiled


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Hashes of all that is saved of the captioner, before each epoch and after it."""
    hashes: list[tuple[str, str]] = []
    epoch = Trainer.epoch

    def follow(self: Trainer, *arguments: object) -> dict[str, float]:
        before = encoder.state_hash(self._captioner)
        figures = epoch(self, *arguments)  # type: ignore[arg-type]
        hashes.append((before, encoder.state_hash(self._captioner)))
        return figures

    monkeypatch.setattr(Trainer, "epoch", follow)
    return hashes


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_its_step_is_skipped_and_counted(
    rows: list[Row],
    config: TrainingConfig,
    tmp_path: Path,
    spoil: Spoil,
    epochs: list[tuple[str, str]],
    factor: float,
) -> None:
    """Weights and statistics of batch normalisation stay as they were; only the second epoch is spoiled."""
    spoil(range(4, 7), factor)
    out = train(rows, tmp_path / "out", config, cache_dir=tmp_path / "cache", device="cpu")
    assert [before == after for before, after in epochs] == [False, True, False, False, False]
    assert [entry.get("skipped") for entry in curve(out)] == [None, 3, None, None, None]
    assert ["loss" in entry for entry in curve(out)] == [True, False, True, True, True]


def test_after_ten_the_training_ends_and_the_weights_before_them_stay(
    rows: list[Row], config: TrainingConfig, tmp_path: Path, spoil: Spoil
) -> None:
    spoil(range(4, 100), math.nan)
    with pytest.raises(TrainingError, match=r"epoch 5 .*10 .*learning_rate below 0.006.* weights before .*ended\."):
        train(rows, tmp_path / "ended", config, cache_dir=tmp_path / "cache", device="cpu")
    ended = tmp_path / "ended"
    assert [entry["epoch"] for entry in curve(ended)] == [1, 2, 3, 4]
    assert all(torch.isfinite(value).all() for value in checkpoint.load(ended, "cpu").state_dict().values())
    assert [path.name for path in tmp_path.glob(".*unfinished")] == []


def test_where_no_epoch_was_finished_nothing_is_written(
    coloured_rows: list[Row], config: TrainingConfig, tmp_path: Path, spoil: Spoil
) -> None:
    spoil(range(100), math.inf)
    with pytest.raises(TrainingError, match=r"epoch 1 .*10 .*learning_rate below"):
        train(coloured_rows, tmp_path / "out", replace(config, batch_size=1), cache_dir=tmp_path / "c", device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["dev_loss", "dev_cider_d"])
def test_a_score_that_is_no_finite_number_chooses_nothing(name: str) -> None:
    state = TrainingState()
    for number, score in enumerate([math.nan, math.inf, -math.inf, 2.0, math.nan]):
        state.consider({name: score}, name, {"number": torch.tensor(number)}.copy)
    assert state.best == {"number": torch.tensor(3)}
