"""How texts were changed into others, for a hundred thousand pairs in a second or two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from training.vocabulary import tokenize

CELLS = 2**18
"""Cells of the tables of distances that are computed at once: what a processor's cache holds."""


def word_changes(before: Sequence[str], after: Sequence[str]) -> np.ndarray:
    """Words inserted, deleted, replaced and kept where `before[i]` is turned into `after[i]`: (N, 4); case is ignored.

    The first three are as few as can be: their sum is `training.metrics.words.word_edits`. Of several ways with as few
    the one counts that keeps the most words.
    """
    characters: dict[str, str] = {}

    def coded(text: str) -> str:
        return "".join([characters.setdefault(word, chr(len(characters))) for word in tokenize(text)])

    pairs = [
        (words := coded(text), words if other == text else coded(other))
        for text, other in zip(before, after, strict=True)
    ]
    old, new = (np.array([len(pair[side]) for pair in pairs], dtype=np.int64) for side in (0, 1))
    unit = int(max(old.max(initial=0), new.max(initial=0))) + 1  # so that the fewest edits count, then what is replaced
    cost = _least_costs(pairs, move=unit, replacement=unit + 1)
    edits, replaced = cost // unit, cost % unit
    inserted = (edits - replaced + new - old) // 2
    return np.column_stack([inserted, inserted - new + old, replaced, new - inserted - replaced])


def character_edits(before: Sequence[str], after: Sequence[str]) -> np.ndarray:
    """Characters inserted, deleted or replaced at least to turn `before[i]` into `after[i]`: (N,)."""
    return _least_costs([*zip(before, after, strict=True)], move=1, replacement=1)


_Pair = tuple[str, str]
"""Two texts, or two sequences of words with a character for each word: strings are compared fast and hold little."""


def _least_costs(pairs: Sequence[_Pair], move: int, replacement: int) -> np.ndarray:
    """The cheapest way from one string of each pair to the other: (N,)."""
    trimmed = [_trimmed(*pair) for pair in pairs]
    costs = np.zeros(len(pairs), dtype=np.int64)
    for some in _batches(trimmed):
        costs[some] = _table([trimmed[number] for number in some], move, replacement)
    return costs


def _trimmed(a: str, b: str) -> _Pair:
    """The pair without what both begin and end with, which costs nothing."""
    if a == b:
        return "", ""
    start = _common(a, b)
    a, b = a[start:], b[start:]
    end = _common(a[::-1], b[::-1])
    return a[: len(a) - end], b[: len(b) - end]


def _common(a: str, b: str) -> int:
    number = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        number += 1
    return number


def _batches(pairs: Sequence[_Pair]) -> Iterator[list[int]]:
    """Numbers of the pairs that differ, in batches of similar length."""
    lengths = [max(len(a), len(b)) for a, b in pairs]
    batch: list[int] = []
    for number in sorted((number for number, length in enumerate(lengths) if length), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * (lengths[number] + 1) > CELLS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _table(pairs: Sequence[_Pair], move: int, replacement: int) -> np.ndarray:
    """The table of distances (Wagner and Fischer, 1974), row by row for all pairs at once: (N,).

    What an insertion passes on within a row is a running minimum, once each column is lowered by the cost of reaching
    it from the first.
    """
    (a, rows), (b, columns) = (_padded([pair[side] for pair in pairs], fill=-1 - side) for side in (0, 1))
    highest = replacement * (a.shape[1] + b.shape[1] + 1)
    kind = np.int16 if highest < 2**15 else np.int64  # small numbers are computed four at once
    reached = (np.arange(b.shape[1] + 1) * move).astype(kind)
    row = np.repeat(reached[None], len(pairs), axis=0)  # (N, columns + 1)
    costs = columns * move
    for number in range(a.shape[1]):
        replaced = row[:, :-1] + (a[:, number, None] != b) * kind(replacement)
        row += kind(move)
        np.minimum(row[:, 1:], replaced, out=row[:, 1:])
        row -= reached
        np.minimum.accumulate(row, axis=1, out=row)
        row += reached
        ends = np.flatnonzero(rows == number + 1)
        costs[ends] = row[ends, columns[ends]]
    return costs


def _padded(strings: Sequence[str], fill: int) -> tuple[np.ndarray, np.ndarray]:
    """The characters of the strings as numbers, filled up at the end (N, L), and their lengths (N,)."""
    lengths = np.array([*map(len, strings)], dtype=np.int64)
    array = np.full((len(strings), lengths.max(initial=0)), fill, dtype=np.int32)
    numbers = np.frombuffer("".join(strings).encode("utf-32-le", "surrogatepass"), dtype="<i4")
    array[np.arange(array.shape[1]) < lengths[:, None]] = numbers
    return array, lengths
