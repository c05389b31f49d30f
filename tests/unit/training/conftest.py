"""Tiny captioners: enough weights to run every line, few enough to run it in milliseconds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TrainingConfig, TransformConfig
from training.data import manifest
from training.data.manifest import Row
from training.runtime import device
from training.vocabulary import Style, Vocabulary

torch.set_num_threads(1)  # more only wait for each other over networks this small

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220), "white": (250, 250, 250)}
TRANSFORM = TransformConfig(side=32)
SCRIPT = Path(__file__).with_name("training_process.py")
DECODER = DecoderConfig(embedding=16, hidden=32, heads=2)


@pytest.fixture
def tiny() -> Captioner:
    torch.manual_seed(0)
    vocabulary = Vocabulary.build(["a red picture", "a blue picture of nothing"])
    encoder = EncoderConfig("small_cnn", "none", "none")
    return Captioner(
        encoder, DECODER, TRANSFORM, DecodingConfig(beam=3, max_length=6), vocabulary, Style(True, True)
    ).eval()


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full precision on every processor, so that sums can be compared."""
    monkeypatch.setattr(device, "has_bfloat16", lambda device: False)


@pytest.fixture
def grid(tiny: Captioner) -> torch.Tensor:
    """Of two images (2, P, C)."""
    return torch.randn(2, tiny.encoder.cells(32), 128)


@pytest.fixture
def tiny_config() -> TrainingConfig:
    """Learns the colours of `coloured_rows` by heart within seconds."""
    return TrainingConfig(
        encoder=EncoderConfig("small_cnn", "none", "all"),
        decoder=DECODER,
        transform=TRANSFORM,
        decoding=DecodingConfig(beam=3, max_length=8),
        epochs=20,
        batch_size=4,
        learning_rate=6e-3,
        label_smoothing=0.0,
        dropout=0.0,
    )


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    def make(colour: str, name: str | None = None, size: tuple[int, int] = (40, 30)) -> Path:
        path = tmp_path / (name or f"{colour}.png")
        Image.new("RGB", size, COLOURS[colour]).save(path)
        return path

    return make


@pytest.fixture
def coloured_rows(picture: Callable[..., Path]) -> list[Row]:
    """Sixteen pictures of one colour each; their captions name it."""
    rows = []
    for number in range(4):
        for colour in COLOURS:
            path = picture(colour, f"{colour}-{number}.png", (40 + number, 30))
            captions = (f"A {colour} picture.", f"This is a picture in {colour}.")
            rows.append(Row(path, manifest.hash_file(path), captions))
    return rows


def curve(folder: Path) -> list[dict[str, Any]]:
    """How the training of a checkpoint went, an entry an epoch, without the time it took."""
    history = checkpoint.read_info(folder)["extra"]["history"]
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]


@pytest.fixture
def start_training(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a training in a process of its own, or in several that share it: see training_process.py."""

    def start(
        rows: Sequence[Row], out: Path, config: TrainingConfig, processes: int = 1, **more: str
    ) -> subprocess.Popen[str]:
        request = {
            "manifest": str(manifest.save(rows, out.with_suffix(".jsonl"))),
            "out": str(out),
            "cache": str(tmp_path / "cache"),
            "config": json.dumps(config.to_json()),
        }
        asked = out.with_suffix(".request")
        asked.write_text(json.dumps(request | more))
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), str(SCRIPT), str(asked)]
        environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[3]), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    return start
