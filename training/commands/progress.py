"""Progress bars, and who may show them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.learning.train import Progress


class TrainingBar:
    """One progress bar an epoch, and one for the images before the first."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(leave=False, delay=0.1)  # nothing is shown of a bar that has not begun
        self._phase = ("", 0)

    def show(self, progress: Progress) -> None:
        if (progress.phase, progress.epoch) != self._phase:
            self._phase = (progress.phase, progress.epoch)
            self._bar.reset(total=progress.steps)
            self._bar.set_description(_NAMES[progress.phase].format(progress))
        self._bar.update(progress.step - self._bar.n)
        if progress.loss is not None:
            self._bar.set_postfix(loss=f"{progress.loss:.3f}", refresh=False)

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


_NAMES = {
    "prepare": "Images",
    "frozen": "Decoder alone, epoch {0.epoch} of {0.epochs}",
    "train": "Epoch {0.epoch} of {0.epochs}",
    "reward": "Self-critical epoch {0.epoch} of {0.epochs}",
    "index": "Images to index",
}


@contextmanager
def captioning_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Inside, a function to be told how many images are done and how many there are."""
    from tqdm import tqdm

    with tqdm(desc=what, unit="image", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


@contextmanager
def leader_speaks() -> Iterator[None]:
    """Inside, of the processes that `torchrun` started on a machine only the first says anything; errors are raised."""
    from torch import distributed

    if not distributed.is_torchelastic_launched() or distributed.get_node_local_rank() == 0:
        yield
        return
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(logging.NOTSET)
