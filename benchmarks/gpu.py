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
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from benchmarks.report import report
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TrainingConfig, TransformConfig
from training.data import jpeg, transforms
from training.learning import optim
from training.learning.step import Targets, TrainingStep
from training.vocabulary import PAD, SPECIALS, Style, Vocabulary

WORDS = 2500  # Flickr8k's vocabulary at a minimum count of four, about
CAPTION_LENGTH = 12
CAPTIONS = 5
JPEGS = {"small": (500, 375), "phone": (4000, 3000)}
MOST_PIXELS = 200_000_000  # of the JPEGs of one call


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
    figures |= _pipelines(figures) | _ratios(figures)
    report("gpu", figures, {name: _meaning(name) for name in figures})


def _ratios(figures: Mapping[str, float]) -> dict[str, float]:
    """CUDA over CPU, of what was measured on both."""
    names = [key.removeprefix("cuda_") for key in figures if key.startswith("cuda_")]
    return {f"cuda_over_cpu_{name}": figures[f"cuda_{name}"] / figures[f"cpu_{name}"] for name in names}


def _pipelines(figures: Mapping[str, float]) -> dict[str, float]:
    """Reading and encoding over the slower of the two alone."""
    return {
        key.replace("read_and_encode", "pipeline_over_slower"): both
        / min(figures[key.replace("read_and_encode", "decode")], figures[f"{key.partition('_')[0]}_encode_resnet50"])
        for key, both in figures.items()
        if "read_and_encode" in key
    }


def _measure(device: str, small: bool, quick: bool) -> dict[str, float]:
    batch, seconds = (8, 0.2) if quick else (32 if small else 256, 3.0)
    found = {}
    for encoder in ("mobilenet_v2", "resnet50"):
        captioner = _captioner(encoder).to(device).eval()
        pixels = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8, device=device)  # (B, S, S, 3)
        with torch.inference_mode():
            found[f"encode_{encoder}"] = batch * _rate(lambda: captioner.encode(pixels), device, seconds)  # noqa: B023
    found |= _reading(captioner, device, batch, seconds)
    with torch.inference_mode():
        grid = captioner.encode(pixels).float()  # (B, P, C)
        found["caption_beam5"] = batch * _rate(lambda: captioner.generate(grid), device, seconds)
    found["train_captions"] = batch * CAPTIONS * _rate(_training_step(captioner, grid.clone()), device, seconds)
    return found


def _reading(captioner: Captioner, device: str, batch: int, seconds: float) -> dict[str, float]:
    """JPEGs decoded a second, by the device or on the CPU by Pillow in threads, and the same ones encoded as well."""
    found = {}
    with TemporaryDirectory(prefix="captioner-gpu-") as folder:
        for name, size in JPEGS.items():
            number = min(batch, MOST_PIXELS // (size[0] * size[1]))
            paths = [_photo(Path(folder) / f"{name}{n}.jpg", size, n) for n in range(number)]
            contents = [path.read_bytes() for path in paths]

            def read() -> np.ndarray | torch.Tensor:
                if device == "cpu":
                    loaded = transforms.load_all(paths, captioner.side)  # noqa: B023
                    return np.stack([pixels for pixels in loaded if isinstance(pixels, np.ndarray)])
                decoded = jpeg.decode_jpegs(contents, captioner.side, torch.device(device))  # noqa: B023
                return torch.stack([pixels for pixels in decoded if pixels is not None])

            if len(read()) < number:
                print(f"{device} decodes no JPEGs; its rows are left out.", file=sys.stderr)
                continue
            with torch.inference_mode():
                found[f"decode_{name}"] = number * _rate(read, device, seconds)
                found[f"read_and_encode_{name}"] = number * _rate(lambda: captioner.encode(read()), device, seconds)
    return found


def _photo(path: Path, size: tuple[int, int], seed: int) -> Path:
    """A JPEG of soft shapes with grain, about as large as a photo's."""
    chance = np.random.default_rng(seed)
    shapes = Image.fromarray(chance.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = chance.normal(0, 6, (size[1], size[0], 1)).astype(np.float32)
    Image.fromarray((np.asarray(shapes) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


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
        [(loss, _)] = training_step(grid, targets)
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
    if "pipeline" in name:
        return "images read and encoded, over the slower of the two alone"
    return "captions a second, trained on from cached features" if "train" in name else "images a second"


if __name__ == "__main__":
    main()
