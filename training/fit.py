"""Training: one recipe, read from top to bottom."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training import checkpoint, encoder, manifest, transforms
from training.batches import Batch, batches
from training.config import TrainingConfig
from training.device import autocast, choose, training_threads
from training.errors import DataError
from training.features import Inputs
from training.manifest import Row
from training.model import Captioner
from training.vocabulary import PAD, UNKNOWN, Style, Vocabulary

log = logging.getLogger(__name__)

LARGE_SET = 10_000  # captions from which on rare words are left out
LEAST = 1e-6  # stands for a sum of weights of nothing, where only unknown words were met


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `phase` is "prepare" (steps are images) or "train" (steps are batches of one epoch).

    `loss` is the epoch's mean so far in nats a word, None while preparing; `seconds` since the start.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    seconds: float


def train(
    rows: Sequence[Row],
    out: Path,
    config: TrainingConfig,
    *,
    start_from: Path | None = None,
    cache_dir: Path,
    progress: Callable[[Progress], None] | None = None,
    device: str = "auto",
    style: Style | None = None,
) -> Path:
    """Train on the rows of split "train" and write a checkpoint to `out`; rows of split "dev" choose the best epoch.

    With `start_from`, a checkpoint folder, its captioner learns on: its words keep their meaning, new words are added,
    and the config's encoder, decoder, transform and decoding give way to its own. `style` is how drafts are to be
    written: as most of the captions are, by default. What a frozen encoder makes of an image is kept in `cache_dir`.
    The same rows, config and machine give the same result. An exception raised by `progress` ends the training and
    leaves nothing at `out`. Raises DataError, ConfigError, WeightsError or CheckpointError.
    """
    config.validate()
    began = time.monotonic()

    def tell(phase: str, epoch: int, step: int, steps: int, loss: float | None) -> None:
        if progress:
            progress(Progress(phase, epoch, config.epochs, step, steps, loss, time.monotonic() - began))

    rows = [row for row in rows if row.split in {manifest.TRAIN, manifest.DEV} and any(row.references)]
    captions = [text for row in rows if row.split == manifest.TRAIN for text in row.references]
    if not captions:
        raise DataError("There is nothing to train on: no row of split 'train' has a caption.")
    torch.manual_seed(config.seed)
    captioner = _learner(captions, config, start_from).to(choose(device))
    captioner.style = style or Style.of(captions)

    inputs = Inputs(captioner, rows, cache_dir, lambda done, total: tell("prepare", 0, done, total, None))
    learned = [row for row in inputs.rows if row.split == manifest.TRAIN]
    judged = [row for row in inputs.rows if row.split == manifest.DEV]
    if not learned:
        raise DataError(f"None of the {len(rows)} images to train on can be read, such as {rows[0].image}.")
    with training_threads(small=captioner.encoder.config.name == "small_cnn"):
        dev_loss = _learn(captioner, inputs, learned, judged, config, tell)
    record = {
        "training": config.to_json() | {"encoder": config.encoder.without_path().to_json()},
        "data": manifest.content_hash(rows),
        "images": len(learned),
        "dev_loss": dev_loss,
        "seconds": round(time.monotonic() - began, 1),
    }
    return checkpoint.save(out, captioner, record)


def _learn(
    captioner: Captioner,
    inputs: Inputs,
    learned: Sequence[Row],
    judged: Sequence[Row],
    config: TrainingConfig,
    tell: Callable[[str, int, int, int, float | None], None],
) -> float | None:
    """Gradient descent over all epochs; ends with the weights of the least dev loss, which it returns.

    Without rows to judge by, the last weights stay.
    """
    steps = math.ceil(len(learned) / config.batch_size)
    descent = optimiser(captioner, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(descent, _rate(steps * config.epochs, config.warmup_share))
    chance = np.random.default_rng(config.seed)
    best, best_loss, worse = None, math.inf, 0
    for epoch in range(1, config.epochs + 1):
        captioner.train()
        total = words = 0.0
        for step, batch in enumerate(batches(learned, config, captioner, chance), start=1):
            loss, weight = loss_of(
                captioner, _grid(captioner, inputs, batch, config), batch.words, batch.weights, config
            )
            descent.zero_grad(set_to_none=True)
            (loss / weight.clamp(min=LEAST)).backward()
            nn.utils.clip_grad_norm_(captioner.parameters(), config.clip)
            descent.step()
            schedule.step()
            total, words = total + loss.item(), words + weight.item()
            tell("train", epoch, step, steps, total / max(words, LEAST))
        if not judged:
            continue
        dev_loss = _mean_loss(captioner, inputs, judged, config)
        log.info("epoch %d of %d: loss %.3f, dev loss %.3f", epoch, config.epochs, total / max(words, LEAST), dev_loss)
        if dev_loss < best_loss:
            best, best_loss, worse = copy.deepcopy(captioner.state_dict()), dev_loss, 0
        else:
            worse += 1
        if config.patience and worse >= config.patience:
            break
    if best is None:
        return None
    captioner.load_state_dict(best)
    return best_loss


def _learner(captions: Sequence[str], config: TrainingConfig, start_from: Path | None) -> Captioner:
    """The captioner before its first step."""
    min_count = config.min_count or (4 if len(captions) >= LARGE_SET else 1)
    if start_from is not None:
        captioner = checkpoint.load(start_from, "cpu")
        captioner.learn_words(captioner.vocabulary.extended(captions, min_count))
        captioner.decoder.dropout.p = config.dropout
        return captioner
    vocabulary = Vocabulary.build(captions, min_count)
    captioner = Captioner(
        config.encoder,
        config.decoder,
        config.transform,
        config.decoding,
        vocabulary,
        Style.of(captions),
        config.dropout,
    )
    encoder.load_weights(captioner.encoder)
    captioner.encoder.from_nothing = config.encoder.weights == "none" and not captioner.encoder.frozen
    return captioner


def optimiser(captioner: Captioner, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019); biases, norms and embeddings do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in captioner.named_parameters():
        if parameter.requires_grad:
            rate = config.encoder_learning_rate if name.startswith("encoder.") else config.learning_rate
            decay = 0.0 if parameter.ndim < 2 or "embedding" in name else config.weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        fused=True,
    )


def _rate(steps: int, warmup_share: float) -> Callable[[int], float]:
    """A linear rise, then half a cosine down to nothing."""
    warmup = max(1, round(steps * warmup_share))

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return rate


def _grid(captioner: Captioner, inputs: Inputs, batch: Batch, config: TrainingConfig) -> torch.Tensor:
    """Grids (B, P, C) of the batch: from the cache where the encoder is frozen, else through it."""
    stored = inputs.pixels_or_grid(batch.hashes)
    if captioner.encoder.frozen:
        return stored
    images = transforms.normalise(stored, captioner.transform)  # (B, 3, S, S)
    if captioner.training and config.shift:
        images = transforms.shift(images, config.shift)
    with autocast(captioner.device):
        return captioner.encoder(images)


def loss_of(
    captioner: Captioner, grid: torch.Tensor, words: torch.Tensor, weights: torch.Tensor, config: TrainingConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the weighted losses of all words, in nats, and the sum of their weights; both scalars.

    `grid` is (B, P, C), `words` (B, K, T) and `weights` (B,), all on the captioner's device. Unknown words are read but
    not learned: they are never to be said.
    """
    before, after = words[:, :, :-1], words[:, :, 1:]  # (B, K, T)
    counted = (after != PAD) & (after != UNKNOWN)
    weight = weights[:, None, None].expand(after.shape)[counted]  # (M,)
    with autocast(captioner.device):
        states = captioner.decoder(grid.float(), before)[counted]  # (M, E)
        logits = captioner.decoder.logits(states)  # (M, V)
    smoothing = config.label_smoothing if captioner.training else 0.0
    losses = F.cross_entropy(logits.float(), after[counted], reduction="none", label_smoothing=smoothing)  # (M,)
    return (losses * weight).sum(), weight.sum()


@torch.inference_mode()
def _mean_loss(captioner: Captioner, inputs: Inputs, rows: Sequence[Row], config: TrainingConfig) -> float:
    """Nats a word over all captions of the rows."""
    captioner.eval()
    total = words = 0.0
    for batch in batches(rows, config, captioner):
        loss, weight = loss_of(captioner, _grid(captioner, inputs, batch, config), batch.words, batch.weights, config)
        total, words = total + loss.item(), words + weight.item()
    return total / max(words, LEAST)
