"""The Python API: `training.load`. Importing it takes no time; `load` imports torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from training.captioner.captioner import Captioner
    from training.data.transforms import Picture
    from training.decoding.beam_search import Hypothesis

AT_ONCE = 128
"""Images taken from an iterable together: they are decoded by all cores, and captioned in batches."""
MOST_ALTERNATIVES = 63


@dataclass(frozen=True)
class Caption:
    """A caption of an image and what the captioner thinks of it.

    `confidence` is the geometric mean of the probabilities of its words, between 0 and 1. `alternatives` are other
    captions of the image, the best first, where they were asked for.
    """

    text: str
    confidence: float
    alternatives: tuple[Caption, ...] = ()

    @property
    def log_probability(self) -> float:
        """The mean of its words' log probabilities."""
        return math.log(self.confidence)


class ImageCaptioner:
    """A captioner that is loaded; `load` makes one. Methods may be called one after the other only.

    An image is the path of a file, the content of one as bytes, or an image that Pillow has opened.
    """

    def __init__(self, captioner: Captioner, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._captioner = captioner

    @property
    def device(self) -> str:
        """What it computes on, such as `cpu` or `cuda:0`."""
        return str(self._captioner.device)

    def caption(self, images: Iterable[str | os.PathLike[str] | bytes | Image], alternatives: int = 0) -> list[Caption]:
        """A caption of each image, in order, with up to so many `alternatives`.

        Raises DataError for the first image that cannot be captioned; `stream` gives all others.
        """
        found = []
        for number, caption in enumerate(self.stream(images, alternatives), start=1):
            if isinstance(caption, DataError):
                raise DataError(f"Image {number} cannot be captioned: {caption}") from caption
            found.append(caption)
        return found

    def stream(
        self, images: Iterable[str | os.PathLike[str] | bytes | Image], alternatives: int = 0
    ) -> Iterator[Caption | DataError]:
        """As `caption`, one after the other, of any number of images: they are taken as captions are asked for.

        In place of an image that cannot be captioned stands its DataError. Raises TrainingError where memory does not
        suffice.
        """
        from PIL import Image

        if isinstance(images, str | bytes | os.PathLike | Image.Image):
            raise DataError('Several images are needed: give a list, such as ["photo.jpg"].')
        if not 0 <= alternatives <= MOST_ALTERNATIVES:
            raise ConfigError(f"There can be 0 to {MOST_ALTERNATIVES} alternatives, and not {alternatives}.")
        return self._stream(map(_picture, images), 1 + alternatives)

    def _stream(self, pictures: Iterator[Picture | DataError], number: int) -> Iterator[Caption | DataError]:
        while batch := list(islice(pictures, AT_ONCE)):
            results = self._captioner.caption_n_best(
                [each for each in batch if not isinstance(each, DataError)], number
            )
            for picture in batch:
                found = picture if isinstance(picture, DataError) else next(results)
                yield found if isinstance(found, DataError) else _caption(*found[0])


def load(checkpoint: str | os.PathLike[str] | None = None, device: str = "auto") -> ImageCaptioner:
    """The captioner in the folder `checkpoint`, by default the starter, on `device`: `auto` (CUDA when there), `cpu`,
    `cuda` or `cuda:N`.

    Raises TrainingError, whose message is one sentence: CheckpointError where there is no whole checkpoint, ConfigError
    where there is no such device.
    """
    from training.captioner import bundled
    from training.captioner import checkpoint as checkpoints

    folder = bundled.starter() if checkpoint is None else Path(checkpoint).expanduser()
    checkpoints.read_info(folder)  # before torch is imported
    return ImageCaptioner(checkpoints.load(folder, device), folder)


def _picture(image: object) -> Picture | DataError:
    from PIL.Image import Image

    if isinstance(image, bytes | Image):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image)
    return DataError(f"This is no image but of type {type(image).__name__}: a path, bytes or a Pillow image is needed.")


def _caption(best: Hypothesis, *others: Hypothesis) -> Caption:
    return Caption(best.text, best.score, tuple(Caption(each.text, each.score) for each in others))
