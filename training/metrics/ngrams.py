"""The n-grams of a caption, and the captions rewards are given for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain

from training.errors import TrainingError

ORDERS = 4
"""BLEU and CIDEr-D both look at one to four tokens in a row."""

Tokens = Sequence[Hashable]
"""A caption as words or word numbers; plain ints count several times faster than NumPy's."""

Ngram = tuple[Hashable, ...]


def count_ngrams(tokens: Tokens) -> Counter[Ngram]:
    """How often each run of 1 to `ORDERS` tokens occurs; an n-gram's order is its length."""
    later = [tokens[first:] for first in range(ORDERS)]
    # The shortest of the shifted captions ends an order, so that a caption of two tokens has no 3-grams.
    return Counter(chain.from_iterable(zip(*later[:order], strict=False) for order in range(1, ORDERS + 1)))


def check_references(references: Sequence[Sequence[Tokens]]) -> None:
    """Raise TrainingError unless every image has references and each is a list of tokens."""
    if not references:
        raise TrainingError("There are no images to take references from.")
    for number, captions in enumerate(references):
        if not captions:
            raise TrainingError(f"Image {number} has no reference.")
        if any(isinstance(tokens, str) for tokens in (captions, *captions)):
            raise TrainingError(f"The references of image {number} must be lists of tokens, not texts.")


def check_candidates(images: Sequence[int], candidates: Sequence[Tokens], count: int) -> None:
    """Raise TrainingError unless candidate k is a list of tokens and `images[k]` one of `count` images."""
    if len(images) != len(candidates):
        raise TrainingError(f"{len(candidates)} candidates were given but {len(images)} image numbers.")
    if any(isinstance(tokens, str) for tokens in (candidates, *candidates)):
        raise TrainingError("Candidates must be lists of tokens, not texts.")
    # A negative number would silently mean an image counted from the end.
    if len(images) and not 0 <= min(images) <= max(images) < count:
        raise TrainingError(f"Image numbers must be from 0 to {count - 1}, the number of images less one.")
