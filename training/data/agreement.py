"""Selects the captions of an image that agree best with its others.

People mention different things in the same photograph, and a small data set has too few photographs to learn what only
one of them mentions. A captioner learns better from the captions that agree with the image's others ("consensus
captions": Devlin et al., 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.data.manifest import Row
from training.metrics import CiderD
from training.vocabulary import tokenize


def agreed(rows: Sequence[Row], most: int) -> list[Row]:
    """The rows, each with at most `most` of its captions: those with the highest CIDEr-D against all of the image's
    captions, in their old order; of equal ones the first."""
    if not any(len(row.references) > most for row in rows):
        return list(rows)
    captions = [[tokenize(text) for text in row.references] for row in rows]
    images = [number for number, texts in enumerate(captions) for _ in texts]
    # a caption is compared with itself too, which adds the same to each of an image
    scores = CiderD(captions).rewards(images, [tokens for texts in captions for tokens in texts])
    ends = np.cumsum([len(texts) for texts in captions])[:-1]
    return [_best(row, own, most) for row, own in zip(rows, np.split(scores, ends), strict=True)]


def _best(row: Row, scores: np.ndarray, most: int) -> Row:
    if len(row.references) <= most:
        return row
    best = sorted(np.argsort(-scores, kind="stable")[:most].tolist())
    return replace(row, references=tuple(row.references[number] for number in best))
