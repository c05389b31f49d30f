"""Training: one recipe, read from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from training.captioner import checkpoint
from training.captioner.captioner import BATCH, Captioner
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.decoding.retrieval import MAX_IMAGES, RetrievalMemory
from training.errors import DataError
from training.features.features import Inputs
from training.learning import distributed
from training.learning.distillation import Teacher
from training.learning.loop import Loop
from training.learning.resume import Resume
from training.learning.tensorboard import TensorBoardLog
from training.networks import encoder, weights
from training.runtime import out_of_memory
from training.runtime.device import choose, training_threads
from training.vocabulary import Style, Vocabulary, tokenize

LARGE_SET = 10_000  # captions from which on rare words are left out


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `phase` is "prepare" or in the end "index" (steps are images), or "frozen", "train"
    or "reward" (steps are batches of one epoch).

    `loss` is the epoch's mean so far in nats a word, None while preparing; `seconds` since the start. Where memory did
    not suffice for whole batches, `images_at_once` is what it suffices for.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    seconds: float
    images_at_once: int | None = None


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
    remembered: Sequence[Row] | None = None,
    forgotten: Collection[str] = (),
    tensorboard: Path | None = None,
    beside_others: bool = False,
) -> Path:
    """Train on the rows of split "train" and write a checkpoint to `out`; rows of split "dev" choose the best epoch.

    With `start_from`, a checkpoint folder, its captioner learns on: its words keep their meaning, new words are added,
    the config's encoder, decoder, transform and decoding give way to its own, and with `distillation` it is its own
    teacher. `style` is how drafts are to be written: as most of the captions are, by default. What a frozen encoder
    makes of an image is kept in `cache_dir`; curves and sample captions go to `tensorboard`, a folder. `beside_others`
    leaves half of the cores to other work.

    A captioner whose decoding has `neighbours` keeps the images it has learned from with their captions, or the rows
    `remembered` where what is learned is not what people said, beside those it knew that are not `forgotten`, named by
    their hashes.

    The same rows, config and machine give the same result, also when the training was killed and is called again: it
    goes on from the last epoch that was written down, which is at most twice a minute. Under `torchrun` its processes
    share every batch. Where a device's memory does not suffice for a batch, it goes through it in parts. An exception
    raised by `progress` ends the training and leaves nothing at `out`. Raises DataError, ConfigError, WeightsError or
    CheckpointError, or TrainingError where memory does not suffice at all.
    """
    config.validate()
    began = time.monotonic()
    rows = [row for row in rows if row.split in {manifest.TRAIN, manifest.DEV} and any(row.references)]
    captions = [text for row in rows if row.split == manifest.TRAIN for text in row.references]
    if not captions:
        raise DataError("There is nothing to train on: no row of split 'train' has a caption.")
    config = config.for_rows(sum(row.split == manifest.TRAIN for row in rows), len(captions))

    def tell(phase: str, epoch: int, epochs: int, step: int, steps: int, loss: float | None) -> None:
        if progress:
            seconds = time.monotonic() - began
            progress(Progress(phase, epoch, epochs, step, steps, loss, seconds, loop.portion.lowered))

    with out_of_memory.explained(), distributed.group(device) as (group, own_device):
        torch.manual_seed(config.seed)
        captioner = _learner(captions, config, start_from).to(choose(own_device))
        captioner.style = style or Style.of(captions)
        identity = [config.to_json(), manifest.content_hash(rows), encoder.state_hash(captioner)]
        resume = Resume(out, identity, writes=group.leads)
        teacher = Teacher(captioner) if start_from is not None and config.distillation else None
        loop = Loop(captioner, rows, config, cache_dir, group, teacher)
        with (
            training_threads(captioner.encoder.config.name == "small_cnn", beside_others),
            TensorBoardLog(tensorboard if group.leads else None) as diary,
        ):
            history = loop.run(tell, diary, resume)
            if captioner.retrieval:
                captioner.retrieval = captioner.retrieval.without(forgotten)
            if captioner.decoding.neighbours and group.leads:
                learned = rows if remembered is None else remembered
                _index(captioner, learned, config, cache_dir, partial(tell, "index", 0, config.epochs))
        record = {
            "code": f"label-studio-captioner {version('label-studio-captioner')}",
            "training": config.to_json() | {"encoder": config.encoder.without_path().to_json()},
            "data": manifest.content_hash(rows),
            "images": loop.images,
            "images_at_once": loop.portion.images,
            "dev_loss": min((entry["dev_loss"] for entry in history if "dev_loss" in entry), default=None),
            "history": history,
            "seconds": round(time.monotonic() - began, 1),
        }
        if group.leads:
            checkpoint.save(out, captioner, record)
        resume.finish()
        group.wait()
    return out


def _learner(captions: Sequence[str], config: TrainingConfig, start_from: Path | None) -> Captioner:
    """The captioner before its first step."""
    min_count = config.min_count or (4 if len(captions) >= LARGE_SET else 1)
    if start_from is not None:
        captioner = checkpoint.load(start_from, "cpu")
        captioner.learn_words(captioner.vocabulary.extended(captions, min_count))
        return captioner
    vocabulary = Vocabulary.build(captions, min_count)
    captioner = Captioner(
        config.encoder,
        config.decoder,
        config.transform,
        config.decoding,
        vocabulary,
        Style.of(captions),
    )
    weights.load(captioner.encoder)
    captioner.encoder.from_nothing = config.encoder.weights == "none" and not captioner.encoder.frozen
    return captioner


def _index(
    captioner: Captioner,
    rows: Sequence[Row],
    config: TrainingConfig,
    cache_dir: Path,
    progress: Callable[[int, int, None], None],
) -> None:
    """Let it keep the images to learn from, as they were shown, and what people said of them: what weighs less than a
    whole caption is a draft that somebody let stand. `progress` is told image, images and no loss."""
    said = [row for row in rows if row.split == manifest.TRAIN and row.weight >= 1]
    said = [row for row in said if any(map(tokenize, row.references))][-MAX_IMAGES:]
    inputs = Inputs(captioner, said, cache_dir, brief=said, varied=config.varied_looks)
    if not inputs.rows:
        return
    captioner.eval()
    views = [row.sha256 for row in inputs.rows]
    seen: list[torch.Tensor] = []  # means of grids alone: those of all images would not fit into memory
    with torch.inference_mode():
        for begin in range(0, len(views), BATCH):
            progress(begin, len(views), None)
            grids = out_of_memory.micro_batched(inputs.grid, views[begin : begin + BATCH])  # of (B, P, C)
            seen += [part.float().mean(dim=1).half().cpu() for part in grids]
    longest = captioner.decoding.max_length
    latest = RetrievalMemory.build(inputs.rows, torch.cat(seen), captioner.vocabulary, longest)
    captioner.retrieval = captioner.retrieval.updated(latest) if captioner.retrieval else latest
