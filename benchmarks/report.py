"""The output of every benchmark: a table for people, then one JSON line for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from training.runtime.console import table


def machine() -> dict[str, Any]:
    """The hardware and versions that the figures were measured with."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies: one that was measured, nothing between two."""
    return sorted(values)[int(share * (len(values) - 1))]


def report(benchmark: str, figures: Mapping[str, float], meanings: Mapping[str, str]) -> None:
    """Print each figure with its meaning, then the JSON object as the last line."""
    print(f"\n{benchmark}")
    print(table([(f"  {key}", f"{value:.4g}", meanings.get(key, "")) for key, value in figures.items()], "<><"))
    rounded = {key: float(f"{value:.5g}") for key, value in figures.items()}
    print(json.dumps({"benchmark": benchmark, "machine": machine(), "figures": rounded}), flush=True)


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
