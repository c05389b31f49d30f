"""The speed of a CUDA device compared with the same machine's CPU, in one call of a few minutes.

    python -m benchmarks.gpu [--quick]

Needs `training` and PyTorch alone. Weights are random: speed does not depend on them. Without CUDA only `--quick` runs,
on the CPU, as a smoke run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch

from benchmarks.report import report
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TrainingConfig, TransformConfig
from training.learning import optim
from training.learning.step import Targets, TrainingStep
from training.vocabulary import PAD, SPECIALS, Style, Vocabulary

WORDS = 2500  # Flickr8k's vocabulary at a minimum count of four, about
CAPTION_LENGTH = 12
CAPTIONS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run, on the CPU where there is no CUDA")
    quick = parser.parse_args().quick
    if not torch.cuda.is_available() and not quick:
        sys.exit("Error: this machine has no CUDA device; --quick makes a smoke run on the CPU.")
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    figures: dict[str, float] = {}
    for device in devices:
        small = quick or device == "cpu"  # the ratio needs no more of the slow side
        figures |= {f"{device}_{name}": value for name, value in _measure(device, small, quick).items()}
    figures |= _ratios(figures)
    report("gpu", figures, {name: _meaning(name) for name in figures})


def _ratios(figures: Mapping[str, float]) -> dict[str, float]:
    """CUDA over CPU, of what was measured on both."""
    names = [key.removeprefix("cuda_") for key in figures if key.startswith("cuda_")]
    return {f"cuda_over_cpu_{name}": figures[f"cuda_{name}"] / figures[f"cpu_{name}"] for name in names}


def _measure(device: str, small: bool, quick: bool) -> dict[str, float]:
    batch, seconds = (8, 0.2) if quick else (32 if small else 256, 3.0)
    found = {}
    for encoder in ("mobilenet_v2", "resnet50"):
        captioner = _captioner(encoder).to(device).eval()
        pixels = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8, device=device)  # (B, S, S, 3)
        with torch.inference_mode():
            found[f"encode_{encoder}"] = batch * _rate(lambda: captioner.encode(pixels), device, seconds)  # noqa: B023
    with torch.inference_mode():
        grid = captioner.encode(pixels).float()  # (B, P, C)
        found["caption_beam5"] = batch * _rate(lambda: captioner.generate(grid), device, seconds)
    found["train_captions"] = batch * CAPTIONS * _rate(_training_step(captioner, grid.clone()), device, seconds)
    return found


def _captioner(encoder: str) -> Captioner:
    vocabulary = Vocabulary((*SPECIALS, *(f"w{n}" for n in range(WORDS))))
    parts = (EncoderConfig(encoder, "none", "none"), DecoderConfig(), TransformConfig(), DecodingConfig())
    torch.manual_seed(1)
    captioner = Captioner(*parts, vocabulary, Style())
    captioner.decoder.set_dropout(words=0.4, grid=0.0)
    return captioner


def _training_step(captioner: Captioner, grid: torch.Tensor) -> Callable[[], object]:
    """One optimisation step on features that are in memory."""
    captioner.train()
    config = TrainingConfig()
    optimiser = optim.optimiser(captioner, config.learning_rate)
    words = torch.randint(len(SPECIALS), WORDS, (len(grid), CAPTIONS, CAPTION_LENGTH), device=grid.device)  # (B, K, T)
    words[:, :, -1] = PAD
    training_step, targets = TrainingStep(captioner, config), Targets(words, torch.ones(len(grid), device=grid.device))

    def step() -> None:
        human, _ = training_step(grid, targets)
        assert human is not None
        loss = human[0]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def _rate(call: Callable[[], object], device: str, seconds: float) -> float:
    """Calls a second: the median of single calls, after two to warm up."""
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    for number in range(1_000_000):
        begun = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - begun)
        if times and time.perf_counter() > deadline:
            break
    return 1 / statistics.median(times)


def _meaning(name: str) -> str:
    if name.startswith("cuda_over_cpu"):
        return "times as fast"
    return "captions a second, trained on from cached features" if "train" in name else "images a second"


if __name__ == "__main__":
    main()
