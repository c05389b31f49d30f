"""What happens when a device's memory runs out: the work is split into smaller batches, or fails with one sentence."""

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
"""The smallest micro-batch of a training: batch normalisation over fewer images estimates its statistics too badly."""

Result = TypeVar("Result")
Items = TypeVar("Items", bound=Sequence[object] | np.ndarray | torch.Tensor)


class MicroBatch:
    """How many images of a batch a training processes at once: all `whole` of them, or fewer since memory ran out.

    The gradients of a batch's micro-batches are accumulated into one step, so that neither the learning rate nor the
    number of steps changes.
    """

    def __init__(self, whole: int) -> None:
        self.whole = self.images = whole

    @property
    def lowered(self) -> int | None:
        """Images in a micro-batch if memory ran out over a whole batch, else None."""
        return self.images if self.images < self.whole else None

    def halve(self) -> None:
        """Process half as many images at once from now on. Raises TrainingError when these would be too few."""
        if self.images <= FEWEST:
            raise TrainingError(_sentence(f"for {self.images} images at once"))
        torch.cuda.empty_cache()
        before, self.images = self.images, max(FEWEST, self.images // 2)
        log.warning("Memory ran out over %d images at once: from here on it is %d.", before, self.images)


def micro_batched(work: Callable[[Items], Result], items: Items) -> list[Result]:
    """`[work(items)]`, or the results of `work` on consecutive parts of the items where memory ran out over all.

    Raises TrainingError when memory does not suffice for one item.
    """
    try:
        return [work(items)]
    except torch.OutOfMemoryError:
        if len(items) <= 1:
            raise TrainingError(_sentence("for one image")) from None
    # Outside of the handler, whose error keeps the tensors of `work` alive.
    torch.cuda.empty_cache()
    half = len(items) // 2
    log.warning("Memory ran out over %d images at once; it is retried with half of them.", len(items))
    return micro_batched(work, items[:half]) + micro_batched(work, items[half:])  # type: ignore[arg-type]


@contextmanager
def explained() -> Iterator[None]:
    """Inside, running out of memory raises a TrainingError that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(_sentence("for this training")) from error


def _sentence(what: str) -> str:
    return (
        f"The device's memory does not suffice {what}: free it of other processes, choose a smaller encoder or "
        f"batch_size (below {FEWEST} it counts), or train on the CPU (CAPTIONER_DEVICE=cpu, --device cpu)."
    )
