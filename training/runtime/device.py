"""The device that computes, its precision and its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from training.errors import ConfigError


def choose(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA if available, else the CPU. Raises ConfigError when there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"There is no device called {name!r}; use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"The device {name} is not on this machine; use cpu or auto.")
    return device


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision in bfloat16 where the hardware supports it, two to three times faster; else float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device))


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
