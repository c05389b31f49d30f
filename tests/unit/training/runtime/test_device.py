"""Precision and threads, on a machine that is pretended."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.captioner.captioner import Captioner
from training.errors import ConfigError
from training.runtime import device

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def claims_bfloat16(monkeypatch: pytest.MonkeyPatch, claims: bool) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda device: claims)


@pytest.mark.parametrize(("half", "full"), [(1.0, 3.0), (3.0, 1.0)])
def test_a_cpu_encodes_in_the_precision_that_is_measured_to_be_faster(
    half: float, full: float, tiny: Captioner, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    claims_bfloat16(monkeypatch, True)
    kernels: set[bool] = set()

    def encode(images: torch.Tensor, *views: object) -> torch.Tensor:
        in_half = torch.is_autocast_enabled("cpu")
        clock[0] += (half if in_half else full) if in_half in kernels else 10 * (full if in_half else half)
        kernels.add(in_half)
        return torch.zeros(len(images), 16, 128, dtype=torch.bfloat16 if in_half else torch.float32)

    monkeypatch.setattr(tiny.encoder, "forward", encode)
    assert tiny.warm_up() is tiny
    pixels = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    assert (tiny.encode(pixels).dtype == torch.bfloat16) == (half < full), "the first time does not count"


def test_nothing_is_measured_where_there_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    claims_bfloat16(monkeypatch, False)
    assert not device.bfloat16_pays(CPU, pytest.fail)


def test_the_first_caption_finds_everything_made(
    tiny: Captioner, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.warm_up()
    fused, space = tiny.encoder._fused, tiny.feature_space
    tiny.caption([picture("red")])
    assert fused is not None
    assert tiny.encoder._fused is fused
    assert tiny.feature_space is space
    assert tiny.decoding.max_length == 6


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 4), ("150000 100000", 2), ("5000 100000", 1), ("", 4)])
def test_threads_are_those_of_the_cores_that_the_process_may_use(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 4, 6})
    (tmp_path / "cpu.max").write_text(quota)
    assert device.available_cores(tmp_path / "cpu.max") == cores
    assert device.available_cores(tmp_path / "absent") == 4


@pytest.mark.parametrize(("usual", "cores", "expected"), [(64, 2, 2), (1, 2, 1)])
def test_no_more_threads_than_cores(usual: int, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: usual)
    monkeypatch.setattr(device, "available_cores", lambda: cores)
    device.limit_threads()
    assert asked == [expected]


def test_of_several_devices_all_must_be_there_and_the_first_is_chosen() -> None:
    assert device.choose("cpu,cpu") == CPU
    with pytest.raises(ConfigError, match="cuda:99 is not on this machine"):
        device.choose("cpu,cuda:99")
