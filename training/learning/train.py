"""A whole training, from rows to a checkpoint."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from training.captioner import checkpoint
from training.captioner.captioner import BATCH, Captioner
from training.config import DecodingConfig, TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.decoding.retrieval import MAX_IMAGES, RetrievalMemory
from training.errors import DataError
from training.features.features import Inputs
from training.learning import distributed
from training.learning.distributed import Group
from training.learning.loop import Loop
from training.learning.resume import Resume
from training.learning.step import Teacher
from training.learning.trainer import DivergedError
from training.networks import encoder, weights
from training.runtime import out_of_memory
from training.runtime.device import choose, training_threads
from training.vocabulary import Style, Vocabulary, has_characters, tokenize

log = logging.getLogger(__name__)

LARGE_SET, RARE = 10_000, 4
"""From this number of captions on, words that occur fewer than RARE times are left out of the vocabulary."""
MOST_CHARACTERS = 120
"""Of a caption in a script without blanks: all of them are searched where a captioner is undecided."""


@dataclass(frozen=True)
class Progress:
    """How far a training is. In the phases "prepare" and "index" (the last) steps are images; in "frozen", "train"
    and "reward" they are the batches of an epoch.

    `loss` is the epoch's mean so far in nats a word, or None; `seconds` are since the start. `images_at_once` is the
    size of a micro-batch, where memory does not suffice for whole batches.
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
    start_from: Captioner | None = None,
    cache_dir: Path,
    progress: Callable[[Progress], None] | None = None,
    device: str = "auto",
    annotators: Sequence[str] | None = None,
    forgotten: Collection[str] = (),
    tensorboard: Path | None = None,
    beside_others: bool = False,
) -> Path:
    """Train on the rows of split "train" and write a checkpoint to `out`; rows of split "dev" choose the best epoch.

    With `start_from` a copy of that captioner is trained further: its words keep their ids, new words are added, its
    encoder, decoder, transform and decoding replace those of the config, and with `distillation` it is the teacher.
    `annotators` are the captions whose style and words it takes over, by default those of all rows. Features of a
    frozen encoder are kept in `cache_dir`; curves and sample captions go to the folder `tensorboard`. `beside_others`
    leaves half of the cores to other processes.

    A captioner whose decoding has `neighbours` indexes the images it has learned from with their captions, in addition
    to those of `start_from` except the `forgotten` ones, named by their hashes.

    The same rows, config and machine give the same result, also when the training was killed and is called again: it
    resumes after the last epoch that was saved, which happens at most twice a minute. Under `torchrun` the processes
    share every batch. Where a device's memory does not suffice for a batch, it is split into micro-batches. An
    exception raised by `progress` ends the training and leaves nothing at `out`. Raises DataError, ConfigError,
    WeightsError or CheckpointError; TrainingError where memory does not suffice at all; DivergedError where too many
    losses are no finite numbers: if an epoch was finished, `out` has the best weights before them.
    """
    config.validate()
    began = time.monotonic()
    rows = _with_words([row for row in rows if row.split in {manifest.TRAIN, manifest.DEV}])
    captions = [text for row in rows if row.split == manifest.TRAIN for text in row.references]
    if not captions:
        raise DataError("There is nothing to train on: no row of split 'train' has a caption.")

    def report(phase: str, epoch: int, epochs: int, step: int, steps: int, loss: float | None) -> None:
        if progress:
            seconds = time.monotonic() - began
            progress(Progress(phase, epoch, epochs, step, steps, loss, seconds, loop.micro_batch.lowered))

    with out_of_memory.explained(), distributed.group(device) as (group, own_device):
        torch.manual_seed(config.seed)
        captioner = _initial(annotators or captions, config, start_from).to(choose(own_device))
        identity = [config.to_json(), manifest.content_hash(rows), encoder.state_hash(captioner)]
        resume = Resume(out, identity, writes=group.leads)
        teacher = Teacher(captioner) if start_from is not None and config.distillation else None
        known_words = len(start_from.vocabulary) if start_from else None
        loop = Loop(captioner, rows, config, cache_dir, group, teacher, known_words)
        with training_threads(captioner.encoder.config.name == "small_cnn", beside_others), ExitStack() as closing:
            board = None
            if tensorboard and group.leads:
                from torch.utils.tensorboard import SummaryWriter

                board = closing.enter_context(SummaryWriter(str(tensorboard)))
            history = loop.run(report, board, resume)
            if captioner.retrieval:
                captioner.retrieval = captioner.retrieval.without(forgotten)
            if captioner.decoding.neighbours:
                _index(captioner, rows, config, cache_dir, partial(report, "index", 0, config.epochs), group)
        record = {
            "code": f"label-studio-captioner {version('label-studio-captioner')}",
            "training": config.to_json() | {"encoder": config.encoder.without_path().to_json()},
            "data": manifest.content_hash(rows),
            "images": loop.images,
            "images_at_once": loop.micro_batch.images,
            "dev_loss": min((entry["dev_loss"] for entry in history if "dev_loss" in entry), default=None),
            "history": history,
            "seconds": round(time.monotonic() - began, 1),
        }
        if group.leads:
            checkpoint.save(out, captioner, record)
        resume.finish()
        group.wait()
    if loop.diverged:
        raise DivergedError(f"{loop.diverged} The weights before them are in {out}.")
    return out


def _with_words(rows: Sequence[Row]) -> list[Row]:
    """The rows without captions that have no word, which would teach silence, and without rows that have no other."""
    kept = [replace(row, references=tuple(text for text in row.references if tokenize(text))) for row in rows]
    count = sum(len(row.references) for row in rows)
    if lost := count - sum(len(row.references) for row in kept):
        log.warning("%d of %d captions have no word and are left out.", lost, count)
    return [row for row in kept if row.references]


def _initial(captions: Sequence[str], config: TrainingConfig, start_from: Captioner | None) -> Captioner:
    """The captioner before its first step, with the words and the style of these captions."""
    style = Style.of(captions)
    # a new word of a few corrections is learned, however many captions there are beside it
    corrects = start_from is not None and (config.epochs or config.frozen_epochs)
    min_count = RARE if len(captions) >= LARGE_SET and not corrects else 1
    if start_from is not None:
        captioner = copy.deepcopy(start_from)
        captioner.extend_vocabulary(captioner.vocabulary.extended(captions, min_count, style.marks))
        captioner.style = style
        captioner.decoding = _with_room(captioner.decoding, captions, captioner.vocabulary)
        return captioner
    vocabulary = Vocabulary.build(captions, min_count).extended((), marks=style.marks)
    captioner = Captioner(
        config.encoder,
        config.decoder,
        config.transform,
        _with_room(config.decoding, captions, vocabulary),
        vocabulary,
        style,
    )
    weights.load(captioner.encoder)
    captioner.encoder.from_nothing = config.encoder.weights == "none" and not captioner.encoder.frozen
    return captioner


def _with_room(decoding: DecodingConfig, captions: Sequence[str], vocabulary: Vocabulary) -> DecodingConfig:
    """The decoding with room for nearly all captions that are mostly in scripts without blanks, which have many
    characters where others have a few words."""
    lengths = sorted(len(vocabulary.encode(text)) - 2 for text in captions if _is_in_characters(text))
    longest = lengths[int(0.99 * (len(lengths) - 1))] if lengths else 0
    return replace(decoding, max_length=max(decoding.max_length, min(longest, MOST_CHARACTERS)))


def _is_in_characters(text: str) -> bool:
    """Whether most of its words are single characters, and not only those of a sign that it quotes."""
    words = tokenize(text) if has_characters(text) else []
    return 2 * sum(map(has_characters, words)) > len(words)


def _index(
    captioner: Captioner,
    rows: Sequence[Row],
    config: TrainingConfig,
    cache_dir: Path,
    progress: Callable[[int, int, None], None],
    group: Group,
) -> None:
    """Index the training images, as they were shown, with their captions for retrieval; each process a share of them. A
    row that weighs less than a whole caption is a draft that somebody left as it was: it is left out. `progress` gets
    image, images and no loss."""
    learned = [row for row in rows if row.split == manifest.TRAIN and row.weight >= 1]
    learned = list({row.sha256: row for row in learned}.values())  # a retrain repeats them
    learned = learned[-MAX_IMAGES:]
    inputs = Inputs(captioner, learned, cache_dir, two_views=learned, varied=config.augmented, group=group)
    if not inputs.rows:
        return
    captioner.eval()
    mine = list(range(group.rank, len(inputs.rows), group.size))
    # means of grids alone: those of all images would not fit into memory
    means = torch.zeros(len(inputs.rows), captioner.encoder.channels, device=captioner.device)
    with torch.inference_mode():
        for begin in range(0, len(mine), BATCH):
            progress(begin, len(mine), None)
            some = mine[begin : begin + BATCH]
            grids = out_of_memory.micro_batched(inputs.grid, [inputs.rows[number].sha256 for number in some])
            means[some] = torch.cat([part.float().mean(dim=1) for part in grids])  # of (B, P, C)
    seen = group.total(means).half().cpu()  # every other process has zeros in their places
    longest = captioner.decoding.max_length
    latest = RetrievalMemory.build(inputs.rows, seen, captioner.vocabulary, longest)
    captioner.retrieval = captioner.retrieval.updated(latest) if captioner.retrieval else latest
