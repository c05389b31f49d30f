"""How many images a batch holds, by the time that an image takes."""

from __future__ import annotations

from backend.serving.champions import BATCH

BATCH_SECONDS = 0.5
"""How long a batch may take: an annotator's image waits for the one that is being computed."""


class Pace:
    """The batch size of one loaded model. With `unlimited` every batch may be full: a GPU takes a moment for it."""

    def __init__(self, unlimited: bool = False) -> None:
        self._unlimited = unlimited
        self._seconds: float | None = None  # an image

    @property
    def images(self) -> int:
        """The images of a batch that takes BATCH_SECONDS, but one at least; the first measures how long one takes."""
        if self._unlimited:
            return BATCH
        if self._seconds is None:
            return 1
        return max(1, min(BATCH, int(BATCH_SECONDS / max(self._seconds, 1e-9))))

    def took(self, images: int, seconds: float) -> None:
        """Learn from a batch.

        One that is less than half full says too little, since what each batch costs is shared by few images. A faster
        one counts at once and a slower one by a quarter, for another process may have had the cores.
        """
        if 2 * images < self.images:
            return
        measured = seconds / images
        self._seconds = measured if self._seconds is None else min(measured, 0.75 * self._seconds + 0.25 * measured)
