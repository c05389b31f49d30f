"""Reuse: the same image again, or one that is nearly the same, gets the caption that a person gave it.

Two images are near duplicates where the pooled features of a frozen encoder, the means of their grids' cells, point the
same way. Each channel is first standardised and squashed, so that the few channels that respond to brightness or blur
do not decide. Only images with similar signs are compared in full (Charikar, 2002, "Similarity estimation techniques
from rounding algorithms").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import nan
from typing import Literal, NamedTuple

import numpy as np

THRESHOLD = 0.74
"""Cosine from which images are near duplicates: `python -m benchmarks.duplicates` measures both kinds of mistakes."""
SHARPNESS = 3.0
"""How many times a standardised channel is multiplied before tanh squashes it: a pooled feature varies less than the
single cells by which it is standardised."""
ALIKE = 0.25
"""Share of the channels whose signs may differ in images that are worth comparing; in near duplicates a fifth do."""
COMPARED = 16
"""Images compared in full, those whose signs are most alike. Of 781 near duplicates none was beyond the fourth."""


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """What pooled features (C,) of a frozen encoder are compared by: `mean` and `spread` (C,) of its channels.

    `encoder` is the hash of all that decides a feature; features of two encoders cannot be compared.
    """

    encoder: str
    mean: np.ndarray
    spread: np.ndarray

    def directions(self, features: np.ndarray) -> np.ndarray:
        """Pooled features (N, C) as vectors of length 1, whose products are the similarities."""
        squashed = np.tanh((features.astype(np.float32) - self.mean) * (SHARPNESS / self.spread))
        return squashed / np.linalg.norm(squashed, axis=1, keepdims=True).clip(1e-6)

    def distance(self, feature: bytes) -> float:
        """How far a feature, half precision in bytes, lies from the mean of the training images, in spreads of a
        channel."""
        standardised = (np.frombuffer(feature, np.float16).astype(np.float32) - self.mean) / self.spread
        return float(np.sqrt(np.square(standardised).mean()))

    def signs(self, features: np.ndarray) -> np.ndarray:
        """Which channels of features (N, C) are above their mean, as bits in whole words (N, W)."""
        bits = np.packbits(features.astype(np.float32) > self.mean, axis=1)
        return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)


class SeenImages:
    """The images that have been drafted, by the signs of their features."""

    def __init__(self, space: FeatureSpace) -> None:
        self._space = space
        self._images: list[str] = []
        self._signs: list[np.ndarray] = []  # each (n, W), together one row an image

    def add(self, features: Mapping[str, bytes]) -> None:
        """Add images by their hashes, with their features, half precision in bytes."""
        if features:
            self._images += features
            self._signs.append(self._space.signs(_stacked(features.values())))

    def alike(self, features: Iterable[bytes]) -> set[str]:
        """The images that may be near duplicates of an image with one of these features; all near duplicates are."""
        if not self._images:
            return set()
        if len(self._signs) > 1:
            self._signs = [np.asfortranarray(np.concatenate(self._signs))]  # (N, W)
        most, found = ALIKE * len(self._space.mean), set[str]()
        for feature in features:
            differing = _differing(self._signs[0], self._space.signs(_stacked([feature])))
            found |= {self._images[number] for number in np.flatnonzero(differing <= most)}
        return found


class Correction(NamedTuple):
    """A caption that a person gave an image in a task; `at` orders it among others of that image, and `accepted` says
    that it is a draft that was left as it was."""

    sha256: str
    caption: str
    task_id: int
    at: float
    accepted: bool = False


class CorrectionMemory:
    """The corrections of one project by the content of their images, and, where there is a `space`, by their features.

    N images are kept side by side: `_features` (N, C) in half precision and `_signs` (N, W), with room for more. A word
    of the signs lies beside the same word of other images, so that a comparison with all of them is quick.
    """

    def __init__(self, space: FeatureSpace | None = None) -> None:
        self.space = space
        self._corrections: dict[int, Correction] = {}  # by annotation
        self._of_image: dict[str, set[int]] = {}  # annotations of each image
        self._images: list[str] = []  # those with a feature, in the order of the arrays
        self._place: dict[str, int] = {}
        channels = len(space.mean) if space else 0
        self._features = np.zeros((0, channels), np.float16)
        self._signs = np.zeros((0, -(-channels // 64)), np.uint64, order="F")

    def __len__(self) -> int:
        return len(self._corrections)

    def put(self, annotation_id: int, correction: Correction) -> None:
        """Add the correction in place of an earlier one of the annotation."""
        self.drop(annotation_id)
        self._corrections[annotation_id] = correction
        self._of_image.setdefault(correction.sha256, set()).add(annotation_id)

    def drop(self, annotation_id: int) -> None:
        """Remove the annotation's correction, and with the last one of an image its feature."""
        known = self._corrections.pop(annotation_id, None)
        if known is None:
            return
        self._of_image[known.sha256].remove(annotation_id)
        if not self._of_image[known.sha256]:
            del self._of_image[known.sha256]
            if (place := self._place.pop(known.sha256, None)) is not None:
                last = self._images.pop()
                if last != known.sha256:  # the last one fills the gap
                    self._images[place], self._place[last] = last, place
                    for array in (self._features, self._signs):
                        array[place] = array[len(self._images)]

    def featureless(self, among: Iterable[str]) -> set[str]:
        """Corrected images without a feature, of these."""
        return {sha256 for sha256 in among if sha256 in self._of_image and sha256 not in self._place}

    def add_features(self, features: Mapping[str, bytes]) -> None:
        """Features, half precision in bytes, by the hashes of their images; those of other images are ignored."""
        if self.space is None or not (lacking := self.featureless(features)):
            return
        new = {sha256: features[sha256] for sha256 in sorted(lacking)}
        first, end = len(self._images), len(self._images) + len(new)
        if end > len(self._features):  # twice the room, so that each feature is copied about once
            self._features = _roomier(self._features, 2 * end, "C")
            self._signs = _roomier(self._signs, 2 * end, "F")
        self._features[first:end] = _stacked(new.values())
        self._signs[first:end] = self.space.signs(self._features[first:end])
        self._place |= {sha256: first + number for number, sha256 in enumerate(new)}
        self._images += new

    def written(self) -> tuple[list[Correction], np.ndarray]:
        """The latest correction of each image that a person wrote, and the features (N, C) of these images."""
        found = {sha256: self._latest(sha256, accepted=False) for sha256 in self._images}
        kept = {sha256: correction for sha256, correction in found.items() if correction}
        return list(kept.values()), self._features[[self._place[sha256] for sha256 in kept]]

    def match(self, sha256: str, feature: bytes | None = None, task_id: int | None = None) -> Correction | None:
        """The latest correction of this image, else of its nearest near duplicate; those of `task_id` do not count."""
        if found := self._latest(sha256, task_id):
            return found
        for image, similarity in self._nearest(feature):
            if similarity < THRESHOLD:
                break
            if found := self._latest(image, task_id):
                return found
        return None

    def similarity(self, feature: bytes | None, task_id: int | None = None) -> float:
        """How similar an image with this feature is to the nearest that was corrected, at most 1; corrections of
        `task_id` do not count. nan where none can be compared."""
        return next((similarity for image, similarity in self._nearest(feature) if self._latest(image, task_id)), nan)

    def _nearest(self, feature: bytes | None) -> Iterator[tuple[str, float]]:
        """The corrected images that are compared in full, and how similar they are, the most similar first."""
        if self.space is None or feature is None or not self._images:
            return
        one, known = _stacked([feature]), len(self._images)  # (1, C)
        differing = _differing(self._signs[:known], self.space.signs(one))  # (N,)
        nearest = differing.argpartition(COMPARED)[:COMPARED] if known > COMPARED else np.arange(known)
        similarity = self.space.directions(self._features[nearest]) @ self.space.directions(one)[0]
        for number in np.argsort(-similarity):
            yield self._images[nearest[number]], float(similarity[number])

    def _latest(self, sha256: str, but_task: int | None = None, accepted: bool = True) -> Correction | None:
        found = (self._corrections[annotation] for annotation in self._of_image.get(sha256, ()))
        wanted = [each for each in found if each.task_id != but_task and (accepted or not each.accepted)]
        return max(wanted, key=lambda each: (each.at, each.task_id), default=None)


def near_duplicates(space: FeatureSpace, features: np.ndarray, signs: np.ndarray, one: np.ndarray) -> list[int]:
    """Which of some images, with `features` (N, C) and their `signs` (N, W), are near duplicates of an image with the
    feature `one` (C,), the nearest first."""
    differing = _differing(signs, space.signs(one[None]))  # (N,)
    nearest = differing.argpartition(COMPARED)[:COMPARED] if len(signs) > COMPARED else np.arange(len(signs))
    similarity = space.directions(features[nearest]) @ space.directions(one[None])[0]
    return [int(nearest[number]) for number in np.argsort(-similarity) if similarity[number] >= THRESHOLD]


def _stacked(features: Iterable[bytes]) -> np.ndarray:
    """Features in bytes as (N, C)."""
    return np.stack([np.frombuffer(feature, np.float16) for feature in features])


def _roomier(array: np.ndarray, rows: int, order: Literal["C", "F"]) -> np.ndarray:
    """The array with room for so many rows. Room that is not used takes no memory, since it is never written."""
    roomier = np.zeros((rows, array.shape[1]), array.dtype, order)
    roomier[: len(array)] = array
    return roomier


def _differing(signs: np.ndarray, one: np.ndarray) -> np.ndarray:
    """How many channels of images (N, W) have another sign than in one image (1, W): (N,). Word by word, which takes
    a tenth of the time where words of one place lie side by side."""
    differing = np.zeros(len(signs), np.int32)
    for place, word in enumerate(one[0]):
        differing += np.bitwise_count(signs[:, place] ^ word)
    return differing
