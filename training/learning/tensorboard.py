"""Curves and sample captions for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SAMPLES = 8


class TensorBoardLog:
    """Writes into `folder`, or nothing where that is None."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        if self._folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, epoch: int, scores: Mapping[str, float | int | str], samples: Sequence[str]) -> None:
        """The scores of an epoch, counted over all stages, and captions of the first development images."""
        if self._writer is None:
            return
        for name, value in scores.items():
            if not isinstance(value, str):
                self._writer.add_scalar(name, value, epoch)
        if samples:
            self._writer.add_text("captions", "\n\n".join(samples[:SAMPLES]), epoch)
        self._writer.flush()
