"""Running out of memory, simulated by functions that raise OutOfMemoryError for large batches."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.fakes import scarce
from tests.unit.training.conftest import curve
from training.captioner import captioner as model_module
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import EncoderConfig, TrainingConfig
from training.data.manifest import Row
from training.errors import TrainingError
from training.evaluation import evaluate
from training.learning.resume import Resume
from training.learning.step import TrainingStep
from training.learning.train import Progress
from training.learning.train import train as train_captioner
from training.networks.encoder import Encoder
from training.runtime import out_of_memory
from training.runtime.out_of_memory import FEWEST, MicroBatch, micro_batched


@pytest.fixture
def config(tiny_config: TrainingConfig, tmp_path: Path) -> TrainingConfig:
    """Batches of sixteen, of a frozen encoder: no norm of a CNN depends on how many images there are at once."""
    torch.manual_seed(8)
    torch.save(Encoder(EncoderConfig("small_cnn", "none", "none")).backbone.state_dict(), tmp_path / "encoder.pth")
    encoder = EncoderConfig("small_cnn", str(tmp_path / "encoder.pth"), "none")
    return replace(tiny_config, encoder=encoder, batch_size=16, epochs=3)


@pytest.fixture
def rows(coloured_rows: list[Row]) -> list[Row]:
    """Their weights are unlike, so that parts do not weigh the same."""
    return [replace(row, weight=0.25 + 0.1 * number) for number, row in enumerate(coloured_rows)]


@pytest.fixture
def train(rows: list[Row], tmp_path: Path) -> Callable[..., Path]:
    def run(name: str, config: TrainingConfig, **options: Any) -> Path:
        return train_captioner(rows, tmp_path / name, config, cache_dir=tmp_path / "cache", device="cpu", **options)

    return run


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in curve(folder)]


def test_a_micro_batch_is_halved_down_to_the_fewest() -> None:
    portion = MicroBatch(26)
    assert portion.lowered is None
    found = []
    while portion.images > FEWEST:
        portion.halve()
        found.append(portion.lowered)
    assert found == [13, 6, 4]
    with pytest.raises(TrainingError, match=r"memory does not suffice for 4 images at once: .*CAPTIONER_DEVICE"):
        portion.halve()
    with pytest.raises(TrainingError, match="for 3 images"):
        MicroBatch(3).halve()


@pytest.mark.parametrize("most", [5, 10])
def test_micro_batches_give_the_loss_of_whole_ones(
    config: TrainingConfig,
    train: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: int,
) -> None:
    whole = train("whole", config)
    monkeypatch.setattr(TrainingStep, "forward", scarce(TrainingStep.forward, most))
    reported: list[Progress] = []
    with caplog.at_level(logging.WARNING):
        parts = train("parts", config, progress=reported.append)
    at_once = 4 if most == 5 else 8
    assert f"from here on it is {at_once}." in caplog.text
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)
    assert losses(whole)[-1] < losses(whole)[0]
    assert [p.steps for p in reported if p.phase == "train"] == [1, 1, 1], "as many steps as ever"
    assert {p.images_at_once for p in reported if p.phase == "train"} == {at_once}
    assert checkpoint.read_info(parts)["extra"]["images_at_once"] == at_once
    assert checkpoint.read_info(whole)["extra"]["images_at_once"] == 16


def test_the_gradient_of_half_a_batch_does_not_count_twice(
    config: TrainingConfig, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole", config)
    forward, calls = TrainingStep.forward, [0]

    def fails_later(self: TrainingStep, stored: torch.Tensor, lesson: Any) -> Any:
        calls[0] += 1
        if calls[0] in {1, 3}:  # of the whole batch; of its second half
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, stored, lesson)

    monkeypatch.setattr(TrainingStep, "forward", fails_later)
    assert losses(train("parts", config)) == pytest.approx(losses(whole), rel=1e-4)
    assert calls[0] == 1 + 2 + 3 * 4


def test_rewards_are_micro_batched_too(
    config: TrainingConfig, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingStep, "forward", scarce(TrainingStep.forward, 4))
    found = curve(train("out", replace(config, epochs=1, self_critical_epochs=1)))
    assert [entry["stage"] for entry in found] == ["train", "reward"]
    assert found[-1]["reward"] >= 0


def test_too_little_memory_for_the_fewest_is_one_sentence(
    config: TrainingConfig, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(TrainingStep, "forward", scarce(TrainingStep.forward, FEWEST - 1))
    with pytest.raises(TrainingError) as error:
        train("out", config)
    assert str(error.value) == (
        "The device's memory does not suffice for 4 images at once: free it of other processes, choose a smaller "
        "encoder or batch_size (below 4 it counts), or train on the CPU (CAPTIONER_DEVICE=cpu, --device cpu)."
    )
    assert not (tmp_path / "out").exists()


def test_memory_that_runs_out_elsewhere_is_explained_too(
    config: TrainingConfig, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("training.learning.trainer.optimiser", fails)
    with pytest.raises(TrainingError, match="does not suffice for this training"):
        train("out", config)


def test_features_are_computed_in_micro_batches_too(
    config: TrainingConfig, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Captioner, "encode", scarce(Captioner.encode, 4))
    assert len(losses(train("out", config))) == 3


def test_a_killed_training_goes_on_in_micro_batches_of_the_same_size(
    tiny_config: TrainingConfig, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.phase == "train" and progress.epoch == 3:
            raise StoppedError

    config = replace(tiny_config, batch_size=8, epochs=4, dropout=0.2)  # the CNN and its norms learn too
    assert Resume.__init__.__kwdefaults__
    monkeypatch.setitem(Resume.__init__.__kwdefaults__, "every_seconds", 0.0)
    with monkeypatch.context() as poor:
        poor.setattr(TrainingStep, "forward", scarce(TrainingStep.forward, 4))
        whole = train("whole", config)
        with pytest.raises(StoppedError):
            train("stopped", config, progress=stop)
    stopped = train("stopped", config)
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_items_are_halved_until_they_fit(caplog: pytest.LogCaptureFixture) -> None:
    def work(items: Any) -> list[int]:
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [int(item) for item in items]

    kinds: list[Any] = [np.arange(7), torch.arange(7), list(range(7))]
    for items in kinds:
        assert [item for part in micro_batched(work, items) for item in part] == list(range(7))
    assert micro_batched(work, [3]) == [[3]]
    assert "over 7 images at once; it is retried with half of them" in caplog.text

    def never(items: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(TrainingError, match="does not suffice for one image"):
        micro_batched(never, [1, 2, 3])


def test_captions_are_the_same_in_micro_batches(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [row.image for row in coloured_rows]
    whole = tiny.caption(images)
    captions = evaluate.hypotheses(tiny, coloured_rows, None, tmp_path / "cache")
    monkeypatch.setattr(
        model_module, "beam_search", scarce(model_module.beam_search, 3)
    )  # its second argument is the grid
    monkeypatch.setattr(Captioner, "encode", scarce(Captioner.encode, 5))
    assert [item.text for item in tiny.caption(images)] == [item.text for item in whole]  # type: ignore[union-attr]
    again = evaluate.hypotheses(tiny, coloured_rows, None, tmp_path / "cache")
    assert [item.text for item in again] == [item.text for item in captions]


def test_nothing_else_is_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(ZeroDivisionError), out_of_memory.explained():
        micro_batched(lambda items: [1 // 0], [1, 2])
