"""What a captioner says of images whose human captions are known, ready to be judged."""

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

NOTHING = Hypothesis("", 1e-12, ())


def hypotheses(
    captioner: Captioner,
    rows: Sequence[Row],
    decoding: DecodingConfig | None,
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
    brief: bool = False,
) -> list[Hypothesis]:
    """A caption for each row, in order; an empty one for an image that cannot be read, so that all stay aligned.

    `progress` is told how many images of how many are captioned, also while they are only being read. `brief`: what is
    said is what they are learned from, which a training has in the cache anyway.
    """

    def reading(done: int, missing: int) -> None:
        if progress:
            progress(0, len(rows))

    inputs = Inputs(captioner, rows, cache_dir, reading, brief=rows if brief else ())
    hashes = list(dict.fromkeys(row.sha256 for row in inputs.rows))
    told: dict[str, Hypothesis] = {}
    for first in range(0, len(hashes), BATCH):
        batch = hashes[first : first + BATCH]
        with torch.inference_mode():
            grid = torch.cat(out_of_memory.halved(inputs.grid, batch))
        told.update(zip(batch, captioner.tell(grid, decoding), strict=True))
        if progress:
            progress(min(first + BATCH, len(hashes)), len(hashes))
    return [told.get(row.sha256, NOTHING) for row in rows]


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
    """The captioner's captions of the rows, with all that makes two evaluations comparable.

    `model` names the captioner and `evaluation_set` the rows; `decoding` defaults to the captioner's own.
    """
    told = hypotheses(captioner, rows, decoding, cache_dir, progress)
    return gate.Evaluation(
        model=model,
        evaluation_set=evaluation_set,
        set_hash=set_hash(rows),
        decoding=(decoding or captioner.decoding).signature(),
        hypotheses=tuple(item.text for item in told),
        references=tuple(row.references for row in rows),
        ids=tuple(row.image_id or row.sha256 for row in rows),
    )


def set_hash(rows: Sequence[Row]) -> str:
    """SHA-256 of what is judged on: image contents and references, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.sha256, row.references]).encode())
    return digest.hexdigest()
