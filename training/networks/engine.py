"""onnxruntime in place of torch for the backbone of a frozen encoder on a CPU, where the extra `onnx` is installed."""

from __future__ import annotations

import copy
import logging
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

from training.runtime.device import autocast
from training.runtime.files import atomic_file

CLEARLY_FASTER = 1.5
"""What it must be times as fast as torch: less is not worth grids that differ from torch's in rounding."""
WORTH_SECONDS = 0.01
"""What a batch must take torch: the export of an encoder so small would cost more than it can save."""
ROUNDING = 1e-3  # of the largest value; more is no rounding
BATCH, ROUNDS = 4, 8
CPU = torch.device("cpu")
ALONE = threading.Lock()
"""Held while images are captioned, and while an engine is compared with torch: side by side both would seem slow."""

log = logging.getLogger(__name__)
Backbone = Callable[[torch.Tensor], dict[str, torch.Tensor]]


class Engine:
    """The maps of images (B, 3, S, S) of one side S by a backbone that was exported to `path`. Threads may share it."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch's threads compute next
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self._session.run(None, {"images": images.float().contiguous().numpy()})
        return {str(number): torch.from_numpy(each) for number, each in enumerate(maps)}


def versions() -> str | None:
    """Those of the packages that decide what an export holds; None where one is not installed."""
    try:
        return " ".join(version(package) for package in ("torch", "onnx", "onnxruntime"))
    except PackageNotFoundError:
        return None


def clearly_faster(backbone: nn.Module, side: int, path: Path, bfloat16: bool) -> Engine | None:
    """An engine for images of `side` pixels, where it gives the same maps clearly faster than torch does in bfloat16
    or in float32; else None.

    It is exported to `path` where it is not there. Whatever fails is told in one line of the log.
    """
    try:
        images = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            if min(_seconds(backbone, images) for _ in range(2)) < WORTH_SECONDS:
                return None
        if not path.exists():
            with atomic_file(path) as unfinished:
                _export(backbone, side, unfinished)
        engine = Engine(path)
        with torch.inference_mode():
            if not _same(engine(images), backbone(images)):
                raise ValueError("its maps differ from torch's")
            with autocast(CPU) if bfloat16 else nullcontext():
                times = _times_as_fast(engine, backbone, images)
    except Exception as error:  # of torch's exporter or of onnxruntime: in any case torch goes on
        log.warning("onnxruntime cannot encode images of %d pixels, so torch does: %s", side, _first_line(error))
        path.unlink(missing_ok=True)  # which may be damaged
        return None
    pays = times >= CLEARLY_FASTER
    log.info("onnxruntime encodes %.1f times as fast as torch and is %s.", times, "used" if pays else "not used")
    return engine if pays else None


def _export(backbone: nn.Module, side: int, path: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: that sides become constants, as they shall
        torch.onnx.export(
            _Listed(copy.deepcopy(backbone)).eval(),
            (torch.zeros(2, 3, side, side),),
            str(path),
            input_names=["images"],
            dynamic_axes={"images": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )


class _Listed(nn.Module):
    """A backbone whose maps are a tuple, as the exporter wants them."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.backbone(images).values())


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return all(
        maps.shape == expected[number].shape
        and bool((maps - expected[number]).abs().max() <= ROUNDING * expected[number].abs().max())
        for number, maps in found.items()
    )


def _times_as_fast(engine: Backbone, backbone: Backbone, images: torch.Tensor) -> float:
    # in turn, and the fastest of each: what other processes do only ever adds to a time
    rounds = [_both(engine, backbone, images) for _ in range(ROUNDS)]
    return min(torchs for torchs, _ in rounds) / min(engines for _, engines in rounds)


def _both(engine: Backbone, backbone: Backbone, images: torch.Tensor) -> tuple[float, float]:
    with ALONE:  # each time anew, so that no request waits for all rounds
        return _seconds(backbone, images), _seconds(engine, images)


def _seconds(encode: Backbone, images: torch.Tensor) -> float:
    begun = time.perf_counter()
    encode(images)
    return time.perf_counter() - begun


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
