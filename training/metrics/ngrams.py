"""The n-grams of captions, counted in one place for CIDEr-D and BLEU."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

ORDERS = 4
"""BLEU and CIDEr-D both count one to four tokens in a row."""

Tokens = Sequence[Hashable]
"""A caption as words or word numbers; plain ints are looked up several times faster than NumPy's."""

_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd and large: a million n-grams all get different numbers with a probability above 0.9999999."""


class TokenIds:
    """Numbers above zero for tokens, in the order in which they are first met."""

    def __init__(self) -> None:
        self._ids: dict[Hashable, int] = {}

    def ngrams(self, captions: Sequence[Tokens], image: np.ndarray) -> Ngrams:
        """The n-grams of captions; `image` (C,) are the numbers of the images that they describe."""
        ids = self._ids
        tokens = [ids.setdefault(token, len(ids) + 1) for token in chain.from_iterable(captions)]
        return Ngrams.count(np.array(tokens, dtype=np.int64), np.array([len(each) for each in captions], int), image)


@dataclass(frozen=True)
class Ngrams:
    """The different n-grams of each of C captions, E in all.

    `caption` (E,) is whose n-gram it is, `order` (E,) its tokens less one, `number` (E,) which n-gram, and `times` (E,)
    how often the caption has it. `image` (C,) are the images that the captions describe, `length` (C,) their tokens.
    """

    caption: np.ndarray
    order: np.ndarray
    number: np.ndarray
    times: np.ndarray
    image: np.ndarray
    length: np.ndarray

    @classmethod
    def count(cls, tokens: np.ndarray, length: np.ndarray, image: np.ndarray) -> Ngrams:
        """Those of captions that lie one after the other in `tokens` (T,), numbers above zero."""
        caption, order, number = occurrences(tokens, length)
        _, first, times = np.unique(_joined(number, caption), return_index=True, return_counts=True)
        # in the order of their first occurrence, so that sums of a caption do not depend on the others
        by_place = np.argsort(first)
        first, times = first[by_place], times[by_place]
        return cls(caption[first], order[first], number[first], times, image, length)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sums of a value (E,) of each n-gram, by caption and order: (C, ORDERS)."""
        shape = len(self.length), ORDERS
        return np.bincount(self.caption * ORDERS + self.order, values, minlength=shape[0] * ORDERS).reshape(shape)

    def find(self, others: Ngrams) -> tuple[np.ndarray, np.ndarray]:
        """The n-grams that `others` have in common with captions here of the same image.

        M pairs, one for each n-gram of `others` and each caption here that has it: its places (M,) there and (M,) here.
        """
        keys, places = self._by_image
        wanted = _joined(others.number, others.image[others.caption])
        first = np.searchsorted(keys, wanted, "left")
        many = np.searchsorted(keys, wanted, "right") - first
        theirs = np.repeat(np.arange(len(wanted)), many)
        nth = np.arange(len(theirs)) - np.repeat(np.cumsum(many) - many, many)  # of the n-gram's captions here
        return theirs, places[first[theirs] + nth]

    @cached_property
    def _by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys (E,) of n-gram and image, ascending, and the places (E,) in which they stand."""
        keys = _joined(self.number, self.image[self.caption])
        places = np.argsort(keys, kind="stable")
        return keys[places], places


def occurrences(tokens: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All n-grams of captions that lie one after the other in `tokens` (T,), as often as they occur.

    Whose each is, its order and its number, as in `Ngrams`.
    """
    owner = np.repeat(np.arange(len(length)), length)  # (T,)
    left = np.repeat(np.cumsum(length), length) - np.arange(len(tokens))  # tokens from here to the caption's end
    words = tokens.astype(np.uint64)
    number: np.ndarray = np.ones_like(words)
    captions, numbers = [], []
    for order in range(ORDERS):
        number = number[: max(0, len(words) - order)] * _BASE + words[order:]
        whole = left[: len(number)] > order
        captions.append(owner[: len(number)][whole])
        numbers.append(number[whole])
    orders = np.repeat(np.arange(ORDERS), [len(each) for each in numbers])
    return np.concatenate(captions), orders, np.concatenate(numbers)


def image_frequencies(number: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different numbers of n-grams (G,), ascending, and how many different images (G,) each occurs with."""
    _, first = np.unique(_joined(number, image), return_index=True)
    return np.unique(number[first], return_counts=True)


def _joined(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """One number for each pair of two."""
    return numbers * _BASE + others.astype(np.uint64)
