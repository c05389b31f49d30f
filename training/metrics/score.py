"""A score and what it may be compared with."""

from __future__ import annotations

from dataclasses import dataclass

from training.errors import TrainingError


class MetricUnavailableError(TrainingError):
    """A metric needs something this machine lacks; the message says what to install."""


@dataclass(frozen=True)
class Score:
    """A corpus score x100. Two scores may be compared only when their signatures are equal.

    `value` is from 0 to 100, of CIDEr-D from 0 to 1000. `signature` says how it was computed; `corpus` says on what
    (references each, pairs) and is for the reader.
    """

    name: str
    value: float
    signature: str
    corpus: str = ""
