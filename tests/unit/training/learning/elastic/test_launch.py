"""A training on two devices is one on one device in two processes, none of which outlives the caller."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.conftest import curve
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.continual.incremental import RetrainingData, retrain
from training.data.manifest import Row
from training.errors import TrainingError
from training.learning import step
from training.learning.elastic import launch
from training.learning.train import Progress
from training.runtime import device

ROOT = Path(__file__).parents[5]
EXACT = Path(__file__).with_name("exact")


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to chance, here and in the processes of a shared training."""
    monkeypatch.setenv("PYTHONPATH", f"{EXACT}{os.pathsep}{ROOT}")
    monkeypatch.setattr(device, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(step, "SHIFT", 0)


def members(folder: Path) -> list[int]:
    """Process ids of a training that writes below the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if "training.learning.elastic" in command and str(folder) in command:
            found.append(int(entry.name))
    return found


def listening(pids: list[int]) -> set[str]:
    """The addresses, in hexadecimal as the kernel has them, at which these processes wait for connections."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_retrain_on_two_devices_learns_what_it_would_on_one(
    tiny: Captioner, coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    config = replace(tiny_config, epochs=2, batch_size=32, encoder=tiny.encoder.config, distillation=0.5)
    rows = [replace(row, references=(f"Here is {row.references[0]}", *row.references[1:])) for row in coloured_rows]
    data = RetrainingData(new=rows[:6], known=rows[6:], forgotten=[rows[0].sha256])
    seen: list[Progress] = []
    addresses: set[str] = set()

    def follow(progress: Progress) -> None:
        if progress.phase == "train" and not addresses:
            addresses.update(listening(members(tmp_path)))
        seen.append(progress)

    options = {"cache_dir": tmp_path / "cache", "config": config, "beside_others": True}
    one = retrain(tiny, data, tmp_path / "one", device="cpu", **options)
    two = retrain(tiny, data, tmp_path / "two", device="cpu,cpu", progress=follow, **options)
    assert [entry["loss"] for entry in curve(tmp_path / "two")] == pytest.approx(
        [entry["loss"] for entry in curve(tmp_path / "one")], rel=1e-4
    )
    assert two.vocabulary.to_json() == one.vocabulary.to_json()
    for name, weights in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], weights, rtol=1e-3, atol=1e-4)
    assert [(progress.step, progress.steps) for progress in seen][-1:] == [(24, 24)]
    assert addresses == {"0100007F"}, "no other machine reaches it"
    assert not members(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"one", "two"}
    assert not list(tmp_path.glob(".*")), "nothing that was handed over is left"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_process_that_is_killed_ends_the_others_with_one_sentence(
    coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.phase == "train" and not killed:
            killed.append(max(members(tmp_path)))  # the one that was started last
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(TrainingError, match="The process that trained on cpu was killed by signal 9") as raised:
        launch.train(coloured_rows, tmp_path / "out", tiny_config, cache_dir=tmp_path, device="cpu,cpu", progress=kill)
    assert str(raised.value).count(". ") == 0
    assert not members(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_processes_end_with_the_one_that_waits_for_them(
    coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    endless = replace(tiny_config, epochs=1_000_000)
    begun = tmp_path / "begun"

    def work() -> None:
        def follow(progress: Progress) -> None:
            begun.touch()

        options = {"cache_dir": tmp_path / "cache", "device": "cpu,cpu"}
        launch.train(coloured_rows, tmp_path / "out", endless, progress=follow, **options)

    parent = multiprocessing.get_context("fork").Process(target=work)
    parent.start()
    try:
        await_true(begun.exists, "the training")
        _, *others = sorted(members(tmp_path))
        assert len(others) == 2
        for pid in others:  # as if it hung: none of them finds out by itself
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
        parent.join()
        await_true(lambda: not members(tmp_path), "the end of all")
    finally:
        for pid in members(tmp_path):
            os.kill(pid, signal.SIGKILL)


def await_true(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 110
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
