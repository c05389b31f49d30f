"""Captions of images, for all requests of a process: pictures are decoded ahead of the model, which takes batches.

One thread captions. While it computes a batch, others decode what comes next, so that it waits for pictures only where
they cannot be read fast enough.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from backend.domain.errors import ModelUnavailableError
from backend.images.cache import LocalImage
from backend.serving.champions import Champions, Model
from backend.serving.lanes import Lane, Lanes
from backend.serving.pace import Pace
from backend.serving.reuse import Reranking
from backend.serving.workers import Workers
from backend.system import logs, memory, metrics
from training.errors import DataError

if TYPE_CHECKING:
    from training.decoding.beam_search import Hypothesis

log = logging.getLogger(__name__)

AHEAD = 64
"""Decoded images that may wait in a lane: the next two full batches."""
KEPT = 2048
"""Hypotheses kept in memory, those asked for last: 10 MiB with features of 2048 channels."""
QUIET_SECONDS = 5.0
"""So long after the last batch of large requests, memory that they needed is given back."""
DECODERS = min(8, len(os.sched_getaffinity(0)))
"""Threads that decode, beside one for small requests."""

OWN = Reranking(0, None)
"""The version's own retrieval memory."""

_Key = tuple[str, str, int, str]


@dataclass(eq=False)
class _Image:
    """An image that is decoded and captioned, for all who have asked for it; `slot` is the lane it was decoded in."""

    key: _Key  # content, version, state of the retrieval memory, hint
    path: Path
    reranking: Reranking
    lane: Lane
    owner: object
    waiting_since: float  # moved on by the time in which it is decoded
    ids: Mapping[str, str]  # of the request that asked first
    slot: Lane = Lane.SMALL
    pixels: Any = None
    found: Future[Hypothesis] = field(default_factory=Future)

    @property
    def version(self) -> str:
        return self.key[1]

    @property
    def hint(self) -> str:
        return self.key[3]

    def is_alike(self, other: _Image) -> bool:
        """Whether both can be in one batch: projects with corrections of their own are not captioned together, and
        captions are completed from one hint."""
        return self.key[1:] == other.key[1:]


class Captions:
    """Captions images by loaded champions. Threads may share it.

    Small requests go first and in batches of their own; large ones take turns. A version captions an image of a content
    once with each retrieval memory, whichever tasks and projects it is of, as long as the hypothesis is kept.
    However many images are asked for, at most 64 a lane are kept decoded, 9 are being decoded, and 32 are in the model,
    which copies them: pixels of 265 images, 78 MiB at the starter's 320 x 320 and 152 MiB at 448 x 448.
    """

    def __init__(self, champions: Champions) -> None:
        self._champions = champions
        self._decoders: Workers[_Image] = Workers("decoder", self._decode, DECODERS + 1, reserved=1, ahead=AHEAD)
        self._changed = threading.Condition()  # guards everything below
        self._under_way: dict[_Key, _Image] = {}
        self._kept: OrderedDict[_Key, Hypothesis] = OrderedDict()
        self._ready: Lanes[_Image] = Lanes()
        self._thread: threading.Thread | None = None
        self._paces: WeakKeyDictionary[Model, Pace] = WeakKeyDictionary()

    def ask(
        self,
        version: str,
        image: LocalImage,
        lane: Lane,
        owner: object,
        reranking: Reranking | None = None,
        waited: float = 0.0,
        hint: str = "",
    ) -> Future[Hypothesis]:
        """The version's hypothesis for an image, with the beam reranked by that memory or the version's own, or
        completed from a hint, which no memory changes; it has `waited` so many seconds before.

        Its exception is a DataError where the image cannot be read, a ModelUnavailableError where the version is not
        loaded, which the caller sees to (`Champions.in_use`), or fails.
        """
        reranking = OWN if hint else reranking or OWN
        key = image.sha256, version, reranking.state, hint
        with self._changed:
            if kept := self._kept.get(key):
                metrics.looked_up("hypotheses", 1, 0)
                self._kept.move_to_end(key)
                known: Future[Hypothesis] = Future()
                known.set_result(kept)
                return known
            if there := self._under_way.get(key):
                metrics.looked_up("hypotheses", 1, 0)
                self._hasten(there, lane)
                return there.found
            metrics.looked_up("hypotheses", 0, 1)
            since = time.perf_counter() - waited
            asked = self._under_way[key] = _Image(key, image.path, reranking, lane, owner, since, logs.ids())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="captioner", daemon=True)
                self._thread.start()
        self._decoders.put(asked, lane, owner)
        return asked.found

    def _hasten(self, image: _Image, lane: Lane) -> None:
        if lane < image.lane:
            image.lane = lane
            self._ready.hasten(image, lane)
            self._decoders.hasten(image, lane)

    def _decode(self, image: _Image, slot: Lane) -> None:
        with logs.working_on(image.ids):
            self._read(image, slot)

    def _read(self, image: _Image, slot: Lane) -> None:
        began = time.perf_counter()
        try:
            with metrics.phase("decode"):
                image.pixels = self._champions.model(image.version).read(image.path)
            image.waiting_since += time.perf_counter() - began
        except Exception as error:
            if not isinstance(error, DataError | ModelUnavailableError):
                log.exception("The image %s could not be read.", image.path)
                error = DataError(f"The image {image.path} cannot be read: {error!r}.")
            self._decoders.release(slot)
            self._end([image], error)
            return
        image.slot = slot
        with self._changed:
            self._ready.put(image, image.lane, image.owner)
            self._changed.notify()

    def _run(self) -> None:
        swollen = False
        while True:
            with self._changed:
                ready = self._changed.wait_for(lambda: len(self._ready), QUIET_SECONDS if swollen else None)
                batch = self._batch() if ready else []
            if not batch:
                memory.give_back()
                swollen = False
                continue
            swollen |= batch[0].lane != Lane.SMALL
            for image in batch:
                self._decoders.release(image.slot)
            with logs.working_on(logs.together(image.ids for image in batch)):
                self._caption(batch)
            del batch  # or its pixels would stay until the next request

    def _batch(self) -> list[_Image]:
        """What is captioned next, of what is ready. The caller has the lock."""
        taken = self._ready.take()
        assert taken
        lane, _, first = taken
        batch, most = [first], self._pace(first.version).images
        while len(batch) < most and (another := self._ready.take_alike(lane, first.is_alike)):
            batch.append(another)
        return batch

    def _pace(self, version: str) -> Pace:
        try:
            model = self._champions.model(version)
        except ModelUnavailableError:  # which each of its images is told
            return Pace(unlimited=True)
        return self._paces.setdefault(model, Pace(unlimited=model.device.type == "cuda"))

    def _caption(self, batch: Sequence[_Image]) -> None:
        version, retrieval, hint = batch[0].version, batch[0].reranking.memory, batch[0].hint
        try:
            model, pace = self._champions.model(version), self._pace(version)
            pixels = [image.pixels for image in batch]
            began = time.perf_counter()
            metrics.BATCH_IMAGES.observe(len(batch))
            for image in batch:
                metrics.PHASE_SECONDS.labels("queue").observe(began - image.waiting_since)
            answers = model.complete(pixels, hint) if hint else model.caption_pixels(pixels, retrieval=retrieval)
            took = time.perf_counter() - began
            pace.took(len(batch), took)
            metrics.PHASE_SECONDS.labels("model").observe(took)
            if len(answers) != len(batch):
                raise ValueError(f"{len(answers)} captions of {len(batch)} images")
        except Exception as error:  # the thread must go on, and whoever waits needs an answer
            if not isinstance(error, ModelUnavailableError):
                log.exception("%s failed on a batch of %d images.", version, len(batch))
                error = ModelUnavailableError(f"The model {version} failed on a batch of images: {error}.")
            self._end(batch, error)
            return
        self._end(batch, answers)

    def _end(self, images: Sequence[_Image], answers: Sequence[Hypothesis] | Exception) -> None:
        with self._changed:
            for place, image in enumerate(images):
                del self._under_way[image.key]
                if not isinstance(answers, Exception):
                    self._kept[image.key] = answers[place]
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        for place, image in enumerate(images):
            image.pixels = None
            if isinstance(answers, Exception):
                image.found.set_exception(answers)
            else:
                image.found.set_result(answers[place])
