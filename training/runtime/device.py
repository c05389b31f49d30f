"""Where the arithmetic runs, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from training.errors import ConfigError


def choose(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one. Raises ConfigError when it is not there."""
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
    """bfloat16 where the hardware computes in it, which is two to three times faster; plain float32 elsewhere."""
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
    """One CPU thread inside for a small network; half of them where other work runs on the machine.

    A recurrent network is many small steps that each wait for the slowest thread: beside a busy web server all cores
    are several times slower than half of them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if small else max(1, before // 2) if beside_others else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
