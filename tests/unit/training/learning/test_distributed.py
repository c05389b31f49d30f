"""Two processes that share every batch learn what one would."""

import copy
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.training.conftest import curve
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import EncoderConfig, TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.features.batches import Batch
from training.features.features import Inputs
from training.learning import step
from training.learning.distributed import Group
from training.learning.train import _index
from training.learning.train import train as train_captioner
from training.networks import encoder
from training.networks.encoder import Views
from training.runtime import device


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_processes_learn_what_one_would(
    coloured_rows: list[Row],
    tiny_config: TrainingConfig,
    tmp_path: Path,
    start_training: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last batch has one image, so that one of the processes is left without any."""
    rows = [replace(row, split=manifest.DEV) if number < 3 else row for number, row in enumerate(coloured_rows)]
    rows = [
        replace(row, weight=1.0 + number % 3, references=row.references[: 1 + number % 2])
        for number, row in enumerate(rows)
    ]
    torch.manual_seed(2)
    torch.save(encoder.Encoder(EncoderConfig("small_cnn", "none")).backbone.state_dict(), tmp_path / "encoder.pth")
    config = replace(
        tiny_config,
        encoder=EncoderConfig("small_cnn", str(tmp_path / "encoder.pth"), "all"),
        decoder=replace(tiny_config.decoder, ensemble=2),
        frozen_epochs=1,
        epochs=3,
        batch_size=6,
        learning_rate=1e-3,
        self_critical_epochs=1,
    )
    process = start_training(rows, tmp_path / "two", config, processes=2, exact="yes")
    monkeypatch.setattr(device, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(step, "SHIFT", 0)
    train_captioner(rows, tmp_path / "one", config, cache_dir=tmp_path / "own", device="cpu")
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert [entry["stage"] for entry in one] == [entry["stage"] for entry in two]
    assert [entry["stage"] for entry in two] == ["frozen", "train", "train", "train", "reward"]
    for expected, found in zip(one[:4], two[:4], strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert found["dev_loss"] == pytest.approx(expected["dev_loss"], rel=1e-4)
    left = {path.name for path in tmp_path.iterdir() if "two" in path.name}
    assert left == {"two", "two.jsonl", "two.request"}  # one checkpoint and nothing unfinished
    assert checkpoint.load(tmp_path / "two", "cpu").caption([rows[0].image])


class Together:
    """Threads in place of processes: what they do is as it is in a group of `size`."""

    def __init__(self, size: int) -> None:
        self.barrier, self.values = threading.Barrier(size, timeout=60), dict[int, torch.Tensor]()

    def run(self, work: Callable[[Group], Any]) -> list[Any]:
        size = self.barrier.parties
        together = self

        class Member(Group):
            def wait(self) -> None:
                together.barrier.wait()

            def total(self, value: torch.Tensor) -> torch.Tensor:
                together.values[self.rank] = value
                self.wait()
                found = torch.stack(list(together.values.values())).sum(dim=0)
                self.wait()
                return found

        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(work, [Member(rank, size) for rank in range(size)]))


@pytest.mark.parametrize("size", [2, 3])
def test_each_process_encodes_a_share_of_the_images(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path, size: int
) -> None:
    """An image that cannot be read is left out in all of them."""
    bad = coloured_rows[0].image.with_name("bad.png")
    bad.write_text("no image")
    rows = [*coloured_rows, Row(bad, "bad", ("nothing",))]
    shares: dict[int, int] = {}
    copies = [copy.deepcopy(tiny) for _ in range(size)]
    with torch.inference_mode():
        encoded = tiny.encode(np.zeros((1, tiny.side, tiny.side, 3), np.uint8))  # (1, P, C)

    def fill(group: Group) -> list[Row]:
        own = copies[group.rank]

        def counted(pixels: np.ndarray, views: Views) -> torch.Tensor:
            shares[group.rank] = shares.get(group.rank, 0) + len(pixels)
            return encoded.expand(len(pixels), -1, -1)  # torch.fx, which the encoder is made with, is not for threads

        own.encode = counted  # type: ignore[method-assign]
        inputs = Inputs(own, rows, tmp_path / "shared", group=group)
        inputs.grid([row.sha256 for row in coloured_rows])
        return list(inputs.rows)

    assert Together(size).run(fill) == [coloured_rows] * size
    assert sum(shares.values()) == len({row.sha256 for row in coloured_rows})
    assert len(shares) == size, "none waits for a single one"


def test_each_process_indexes_a_share_of_the_images(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path, exact: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[int, int] = {}
    grid = Inputs.grid
    copies = [copy.deepcopy(tiny) for _ in range(2)]  # not in the threads: torch.fx traces a copy, one at a time

    def indexed(group: Group) -> dict[str, torch.Tensor]:
        own = copies[group.rank]
        own.retrieval = None
        _index(own, coloured_rows, TrainingConfig(), tmp_path / "shared", lambda *step: None, group)
        assert own.retrieval is not None
        return own.retrieval.tensors()

    def counted(self: Inputs, keys: Sequence[str]) -> torch.Tensor:
        read[threading.get_ident()] = read.get(threading.get_ident(), 0) + len(keys)
        return grid(self, keys)

    expected = indexed(Group())
    monkeypatch.setattr(Inputs, "grid", counted)
    for found in Together(2).run(indexed):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
    assert sorted(read.values()) == [8, 8]


@pytest.mark.parametrize(("images", "size"), [(5, 2), (4, 2), (3, 3), (1, 2), (7, 3)])
def test_every_image_of_a_batch_has_one_process(images: int, size: int) -> None:
    names = [f"image {n}" for n in range(images)]
    views = [f"{name}-mirrored" for name in names]
    batch = Batch(names, torch.arange(images)[:, None, None], torch.ones(images), views)
    parts = [batch.part(rank, size) for rank in range(size)]
    weighty = [name for part in parts for name, weight in zip(part.hashes, part.weights, strict=True) if weight]
    assert sorted(weighty) == sorted(batch.hashes)
    for part in parts:
        assert part.hashes
        assert [f"image {number}" for number in part.words.flatten().tolist()] == part.hashes
        assert part.keys == [f"{name}-mirrored" for name in part.hashes]


def test_alone_there_is_nothing_to_wait_for() -> None:
    alone, learner, value = Group(), torch.nn.Linear(1, 1), torch.tensor(3.0)
    assert alone.leads
    assert alone.wrap(learner) is learner
    assert alone.total(value) is value
    alone.wait()
