"""The device that computes, its precision and its threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from training.errors import ConfigError

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of CPU time, or "max", a period of microseconds."""


def choose(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA if available, else the CPU. Of several, such as "cuda:0,cuda:1", the
    first: only a training uses all. Raises ConfigError where one of them is not there."""
    if "," in name:
        first, *_ = map(choose, name.split(","))
        return first
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"There is no device called {name!r}; use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"The device {name} is not on this machine; use cpu or auto.")
    return device


def autocast(device: torch.device, wanted: bool = True) -> torch.autocast:
    """Mixed precision in bfloat16 where the hardware supports it, two to three times faster; else float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and has_bfloat16(device))


def bfloat16_pays(device: torch.device, work: Callable[[], object]) -> bool:
    """Whether the device does this work faster in bfloat16. A CPU that claims to have it is measured: some compute it
    slowly, and some networks gain nothing."""
    if device.type != "cpu" or not has_bfloat16(device):
        return has_bfloat16(device)
    seconds: dict[bool, float] = {}
    for wanted in (False, True):
        with autocast(device, wanted):
            work()  # the first time kernels are chosen
            begun = time.perf_counter()
            work()
            seconds[wanted] = time.perf_counter() - begun
    return seconds[True] < seconds[False]


def limit_threads() -> None:
    """Compute with at most as many threads as this process has cores; with fewer where OMP_NUM_THREADS says so."""
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))


def available_cores(quota: Path = CPU_QUOTA) -> int:
    """Cores that the process may run on; a container's share of them, if it has one, rounded up."""
    cores = len(os.sched_getaffinity(0))
    try:
        share, period = quota.read_text().split()
        return max(1, min(cores, -(-int(share) // int(period))))
    except (OSError, ValueError):  # not in a container, or "max"
        return cores


def has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


@contextmanager
def training_threads(small: bool, beside_others: bool) -> Iterator[None]:
    """Inside, torch uses one CPU thread for a small network, and half of the threads beside other work.

    A recurrent network computes many small steps that each wait for the slowest thread: beside a busy web server, all
    cores are several times slower than half of them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if small else max(1, before // 2) if beside_others else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
