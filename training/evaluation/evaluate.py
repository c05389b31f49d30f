"""Captions for the images of a data set, and what the gate needs to compare two captioners' captions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from training.captioner.captioner import BATCH, Captioner
from training.config import DecodingConfig
from training.data.manifest import Row
from training.decoding.beam_search import Hypothesis
from training.features.features import Inputs
from training.gate import gate
from training.runtime import out_of_memory

EMPTY = Hypothesis("", 1e-12, ())


def hypotheses(
    captioner: Captioner,
    rows: Sequence[Row],
    decoding: DecodingConfig | None,
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
    two_views: bool = False,
    signals: bool = False,
) -> list[Hypothesis]:
    """A caption for each row, in order; an empty one for an image that cannot be read.

    `progress` gets the number of images captioned so far and of all; it is also called, with 0, while features are
    computed. With `two_views` the features are those that a training on the same rows uses and has in the cache; with
    `signals` captions have their signals and the pooled features of their images.
    """

    def reading(done: int, missing: int) -> None:
        if progress:
            progress(0, len(rows))

    inputs = Inputs(captioner, rows, cache_dir, reading, two_views=rows if two_views else ())
    hashes = list(dict.fromkeys(row.sha256 for row in inputs.rows))
    captions: dict[str, Hypothesis] = {}
    for first in range(0, len(hashes), BATCH):
        batch = hashes[first : first + BATCH]
        with torch.inference_mode():
            grid = torch.cat(out_of_memory.micro_batched(inputs.grid, batch))
        found = captioner.hypotheses(grid, decoding) if signals else captioner.generate(grid, decoding)
        captions.update(zip(batch, found, strict=True))
        if progress:
            progress(min(first + BATCH, len(hashes)), len(hashes))
    return [captions.get(row.sha256, EMPTY) for row in rows]


def evaluate(
    captioner: Captioner,
    rows: Sequence[Row],
    *,
    model: str,
    evaluation_set: str,
    decoding: DecodingConfig | None = None,
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> gate.Evaluation:
    """The captions of the rows, and what identifies captioner, rows and decoding, so that the gate can compare two.

    `model` names the captioner and `evaluation_set` the rows; `decoding` defaults to the captioner's own.
    """
    captions = hypotheses(captioner, rows, decoding, cache_dir, progress)
    return gate.Evaluation(
        model=model,
        evaluation_set=evaluation_set,
        set_hash=set_hash(rows),
        decoding=(decoding or captioner.decoding).signature(),
        hypotheses=tuple(each.text for each in captions),
        references=tuple(row.references for row in rows),
        ids=tuple(row.image_id or row.sha256 for row in rows),
    )


def set_hash(rows: Sequence[Row]) -> str:
    """SHA-256 of the contents and references of the rows' images, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.sha256, row.references]).encode())
    return digest.hexdigest()
