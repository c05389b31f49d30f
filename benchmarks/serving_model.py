"""The captioner that `benchmarks.serving` has served, by itself: each function runs in a process beside the server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar, cast
from unittest import mock

import numpy as np
import torch

from backend.domain.corrections import Task
from backend.images.cache import Images
from backend.serving import champions
from backend.settings import Settings
from training.captioner import checkpoint
from training.captioner.captioner import BATCH, Captioner
from training.config import TrainingConfig
from training.data import transforms
from training.data.manifest import Row
from training.networks import engine, weights
from training.runtime.processes import end_with_parent
from training.vocabulary import END, Style, Vocabulary

WORDS = 10
"""Of each caption by random weights: those of Flickr8k's captions by the trained recipe are 9.7 on average."""
NEVER = -1e4  # the bias of the end token: a caption then ends where it may not be longer
Result = TypeVar("Result")


class Beside:
    """A process with this checkpoint loaded as the server loads it, with the same threads, and like the server in a
    session of its own, by which Linux may share out its cores. It idles unless asked."""

    def __init__(self, folder: Path) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_load, initargs=(folder,))

    def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        running: Future[Result] = self._pool.submit(function, *arguments)
        return running.result()

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def untrained(folder: Path, config: TrainingConfig, rows: Sequence[Row], min_count: int) -> Path:
    """The checkpoint of a captioner of these captions before its first step, whose captions all have WORDS words."""
    captions = [caption for row in rows for caption in row.references]
    style = Style.of(captions)
    vocabulary = Vocabulary.build(captions, min_count).extended((), marks=style.marks)
    # a memory of images to rerank by would take as long as the features of the training images
    decoding = replace(config.decoding, max_length=WORDS, neighbours=0)
    torch.manual_seed(1)
    captioner = Captioner(config.encoder, config.decoder, config.transform, decoding, vocabulary, style)
    weights.load(captioner.encoder)
    with torch.no_grad():
        for decoder in captioner.decoder.decoders:
            decoder.bias[END] = NEVER
    return checkpoint.save(folder, captioner)


def encoder_rate(photos: Sequence[Path], number: int, seconds: float) -> float:
    """Images a second through the encoder, from normalised tensors in memory: `number` images, the photos over and
    over, or as many batches as can be encoded in that time."""
    parts = [photos[first : first + BATCH] for first in range(0, len(photos), BATCH)]
    batches = cycle([_captioner._images(torch.from_numpy(_pixels(part))) for part in parts])
    done, begun = 0, time.perf_counter()
    with torch.inference_mode(), mock.patch.object(_captioner, "_images", _unchanged):
        while done < number and time.perf_counter() - begun < seconds:
            done += len(_encode(next(batches)))
    return done / (time.perf_counter() - begun)


def accelerate(compiled: Path) -> None:
    """Encode by onnxruntime, as the server does: it has measured that this is faster."""
    with mock.patch.object(engine, "CLEARLY_FASTER", 0.0):
        _captioner.accelerate(compiled)


def bare(photo: Path) -> tuple[float, str]:
    """Seconds of the model on one image whose pixels are in memory, encoder and beam search, and its caption."""
    pixels = _pixels([photo])
    begun = time.perf_counter()
    with torch.inference_mode():
        [caption] = _captioner.generate(_captioner.encode(pixels))
    return time.perf_counter() - begun, caption.text


def stages(folder: Path, hosts: str, urls: Sequence[str]) -> dict[str, float]:
    """CPU seconds of captioning the images at these addresses, stage by stage, each with nothing beside it."""
    images = Images(Settings.from_env({"CAPTIONER_DATA_DIR": str(folder), "CAPTIONER_IMAGE_HOSTS": hosts}))
    found = dict.fromkeys(("fetch", "decode", "encoder", "beam_search"), 0.0)

    def timed(name: str, work: Callable[[], Result]) -> Result:
        begun = time.process_time()
        result = work()
        found[name] += time.process_time() - begun
        return result

    def fetched() -> list[Path]:
        return [images.local(url, Task(number, 1, url)).path for number, url in enumerate(urls)]

    paths = timed("fetch", fetched)
    for first in range(0, len(paths), BATCH):
        some = paths[first : first + BATCH]
        pixels = torch.from_numpy(timed("decode", lambda: _pixels(some)))  # noqa: B023
        batch = _captioner._images(pixels)
        with torch.inference_mode():
            with mock.patch.object(_captioner, "_images", _unchanged):
                grid = timed("encoder", lambda: _encode(batch))  # noqa: B023
            timed("beam_search", lambda: _captioner.generate(grid))  # noqa: B023
    return found


_captioner: Captioner


def _load(folder: Path) -> None:
    global _captioner
    end_with_parent()
    os.setsid()
    _captioner = cast(Captioner, champions._load(folder, "auto"))


def _encode(batch: torch.Tensor) -> torch.Tensor:
    grid = _captioner.encode(batch)
    if grid.is_cuda:
        torch.cuda.synchronize()
    return grid


def _unchanged(images: torch.Tensor) -> torch.Tensor:
    return images


def _pixels(photos: Sequence[Path]) -> np.ndarray:
    return np.stack([each for each in transforms.load_all(photos, _captioner.side) if isinstance(each, np.ndarray)])
