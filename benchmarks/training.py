"""The speed of training from cached features, compared with its arithmetic alone and with the common tutorial code.

    python -m benchmarks.training [--quick]

Three ways to train on the same captions, features and sizes, measured in turn in one process:
  training     `training.learning.trainer` as `captioner train` runs it: cache on disk, batches, optimiser, clipping
  bare         forward and backward pass of the same captioner on tensors that are in memory already
  tutorial     features repeated for every caption, an LSTMCell stepped over the words, attention and inputs
               projected inside the loop
Weights and features are random, captions as long as those of Flickr8k: speed does not depend on their words.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.report import report
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TrainingConfig, TransformConfig
from training.data.manifest import Row
from training.features.batches import Batch, batches
from training.features.features import Inputs, cache_of
from training.learning.distributed import Group
from training.learning.stages import stages
from training.learning.step import Targets, TrainingStep
from training.learning.trainer import Trainer
from training.runtime.device import autocast, choose
from training.vocabulary import PAD, SPECIALS, Style, Vocabulary

WORDS = 2500  # Flickr8k's vocabulary at a minimum count of four, about
MEAN_LENGTH, SPREAD = 10.8, 3.8  # words of a caption of Flickr8k
PAIRS = 4  # measurements of the first two, whose speeds are close, for each of the third
MEANINGS = {
    "training": "captions a second, training from cached features",
    "bare": "captions a second, forward and backward pass alone",
    "tutorial": "captions a second, the tutorials' form",
    "over_bare_step": "training over bare (target: 0.9)",
    "over_tutorial_form": "training over tutorial (target: 3)",
}


class TutorialDecoder(nn.Module):
    """Show, Attend and Tell as it is commonly taught, word by word and caption by caption."""

    def __init__(self, config: DecoderConfig, words: int, channels: int, dropout: float) -> None:
        super().__init__()
        hidden = config.hidden
        self.embedding = nn.Embedding(words, config.embedding)
        self.keys = nn.Linear(channels, hidden)
        self.query = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1)
        self.begin_hidden, self.begin_cell = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.gate = nn.Linear(hidden, channels)
        self.cell = nn.LSTMCell(config.embedding + channels, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, words)

    def forward(self, grid: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Scores (N, T, V) for grids (N, P, C), one for every caption, and words (N, T)."""
        embedded = self.embedding(words)  # (N, T, E)
        mean = grid.mean(dim=1)
        hidden, cell = self.begin_hidden(mean), self.begin_cell(mean)  # (N, H)
        scores = []
        for step in range(words.shape[1]):
            relevance = self.score(torch.relu(self.keys(grid) + self.query(hidden)[:, None])).squeeze(2)  # (N, P)
            context = (grid * relevance.softmax(dim=1)[:, :, None]).sum(dim=1)  # (N, C)
            context = torch.sigmoid(self.gate(hidden)) * context
            hidden, cell = self.cell(torch.cat([embedded[:, step], context], dim=1), (hidden, cell))
            scores.append(self.output(self.dropout(hidden)))
        return torch.stack(scores, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    quick = parser.parse_args().quick
    with TemporaryDirectory(prefix="captioner-training-") as folder:
        report("training", _measure(Path(folder), quick), MEANINGS)


def _measure(folder: Path, quick: bool) -> dict[str, float]:
    images, rounds = (32, 1) if quick else (96, 5)
    device = choose()
    config = TrainingConfig(epochs=1)
    words = [f"w{number}" for number in range(WORDS - len(SPECIALS))]
    parts = (EncoderConfig("resnet50", "none"), config.decoder, TransformConfig(), DecodingConfig())
    torch.manual_seed(1)
    captioner = Captioner(*parts, Vocabulary((*SPECIALS, *words)), Style()).to(device)
    captioner.decoder.set_dropout(config.dropout, config.grid_dropout)
    rows = _rows(images, words)
    inputs = _cached(captioner, rows, folder)
    in_memory = [
        (batch, inputs.stored(batch.keys).float())
        for batch in batches(rows, config, captioner, np.random.default_rng(1))
    ]
    trainer = Trainer(0, stages(config)[0], captioner, inputs, rows, config, Group())
    tutorial = TutorialDecoder(config.decoder, WORDS, captioner.encoder.channels, config.dropout).to(device).train()
    sides: dict[str, Callable[[], object]] = {
        "training": lambda: trainer.epoch(1, lambda step, steps, loss: None),
        "bare": lambda: [_bare(captioner, batch, grid, config) for batch, grid in in_memory],
        "tutorial": lambda: [_tutorial(tutorial, batch, grid, device) for batch, grid in in_memory],
    }
    captions = sum(len(row.references) for row in rows)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name in ("training", "bare") * PAIRS + ("tutorial",):
            run = sides[name]
            begun = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn or quick:  # the first round warms up
                rates[name].append(captions / (time.perf_counter() - begun))
    return _figures(rates)


def _figures(rates: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Medians of captions a second; the first two sides, which are close, are compared pair by pair."""
    figures = {name: statistics.median(values) for name, values in rates.items()}
    pairs = zip(rates["training"], rates["bare"], strict=True)
    figures["over_bare_step"] = statistics.median(training / bare for training, bare in pairs)
    figures["over_tutorial_form"] = figures["training"] / figures["tutorial"]
    return figures


def _rows(images: int, words: list[str]) -> list[Row]:
    """Images that exist in the cache alone, five captions each; word frequencies follow Zipf's law."""
    chance = np.random.default_rng(1)
    shares = 1 / np.arange(1, len(words) + 1)
    shares /= shares.sum()

    def caption() -> str:
        length = max(3, round(chance.normal(MEAN_LENGTH, SPREAD)))
        return " ".join(chance.choice(words, size=length, p=shares))

    return [
        Row(Path(f"{number}.jpg"), hashlib.sha256(bytes([number])).hexdigest(), tuple(caption() for _ in range(5)))
        for number in range(images)
    ]


def _cached(captioner: Captioner, rows: list[Row], folder: Path) -> Inputs:
    """Inputs whose cached features are random numbers."""
    cache = cache_of(captioner, folder)
    chance = np.random.default_rng(2)
    for row in rows:
        cache.add([row.sha256], chance.random((1, *cache.shape), dtype=np.float32).astype(np.float16))
    return Inputs(captioner, rows, folder)


def _bare(captioner: Captioner, batch: Batch, grid: torch.Tensor, config: TrainingConfig) -> torch.Tensor:
    captioner.train()
    captioner.zero_grad(set_to_none=True)
    human, *_ = TrainingStep(captioner, config)(grid, Targets(batch.words, batch.weights))
    assert human is not None
    loss = human[0] / human[1]
    loss.backward()
    return loss


def _tutorial(decoder: TutorialDecoder, batch: Batch, grid: torch.Tensor, device: torch.device) -> torch.Tensor:
    decoder.zero_grad(set_to_none=True)
    words = batch.words.flatten(0, 1)  # (N, T)
    before, after = words[:, :-1], words[:, 1:]
    with autocast(device):
        scores = decoder(grid.repeat_interleave(batch.words.shape[1], dim=0), before)
    loss = F.cross_entropy(scores.float().flatten(0, 1), after.flatten(), ignore_index=PAD)
    loss.backward()
    return loss


if __name__ == "__main__":
    main()
