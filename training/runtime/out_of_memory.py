"""What is done where a device's memory does not suffice: less at once, and in the end one clear sentence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch

from training.errors import TrainingError

log = logging.getLogger(__name__)

FEWEST = 4
"""Images at once below which a training does not go: a norm over fewer would say little of the others."""

Result = TypeVar("Result")
Items = TypeVar("Items", bound=Sequence[object] | np.ndarray | torch.Tensor)


class MicroBatch:
    """How many images of a batch a training works on at once: all of them, or fewer since memory ran out.

    The parts of a batch follow one another and make one step together, so that neither the learning rate nor the number
    of steps has to follow.
    """

    def __init__(self, whole: int) -> None:
        self.whole = self.images = whole

    @property
    def lowered(self) -> int | None:
        """Images at once, where memory did not suffice for whole batches."""
        return self.images if self.images < self.whole else None

    def halve(self) -> None:
        """Raises TrainingError where that would be too few."""
        if self.images <= FEWEST:
            raise TrainingError(_sentence(f"for {self.images} images at once"))
        torch.cuda.empty_cache()
        before, self.images = self.images, max(FEWEST, self.images // 2)
        log.warning("Memory ran out over %d images at once: from here on it is %d.", before, self.images)


def halved(work: Callable[[Items], Result], items: Items) -> list[Result]:
    """What `work` makes of the items, all at once: one result, or several of parts of them where memory ran out.

    Raises TrainingError when it does not suffice for one item.
    """
    try:
        return [work(items)]
    except torch.OutOfMemoryError:
        if len(items) <= 1:
            raise TrainingError(_sentence("for one image")) from None
    # Outside of the handler, whose error holds on to what the work had made.
    torch.cuda.empty_cache()
    half = len(items) // 2
    log.warning("Memory ran out over %d images at once; they are parted.", len(items))
    return halved(work, items[:half]) + halved(work, items[half:])  # type: ignore[arg-type]


@contextmanager
def told_of() -> Iterator[None]:
    """Within the block, memory that ran out is told in a TrainingError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(_sentence("for this training")) from error


def _sentence(what: str) -> str:
    return (
        f"The device's memory does not suffice {what}: free it of other processes, choose a smaller encoder or "
        f"batch_size (below {FEWEST} it counts), or train on the CPU (CAPTIONER_DEVICE=cpu, --device cpu)."
    )
