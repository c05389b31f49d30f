"""What is shown of a training while it runs, and by which of its processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from training.runtime.console import ProgressBar

if TYPE_CHECKING:
    from training.learning.train import Progress


class TrainingBar(ProgressBar):
    """One progress bar an epoch, and one for the images before the first."""

    def update(self, progress: Progress) -> None:
        """Show the progress that a training reports."""
        loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
        self.show(progress.step, progress.steps, _NAMES[progress.phase].format(progress), loss)


_NAMES = {
    "prepare": "Images",
    "frozen": "Decoder alone, epoch {0.epoch} of {0.epochs}",
    "train": "Epoch {0.epoch} of {0.epochs}",
    "reward": "Self-critical epoch {0.epoch} of {0.epochs}",
    "index": "Images for retrieval",
}


@contextmanager
def only_first_process_prints() -> Iterator[None]:
    """Inside, only the first of the processes that `torchrun` started on a machine prints; errors are raised by all."""
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
