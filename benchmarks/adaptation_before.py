"""A retrain as version 0.1.0 did it, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.continual.incremental import RetrainingData
from training.data import manifest
from training.data.manifest import Row
from training.evaluation.evaluate import hypotheses
from training.learning.train import train

OPTIONS = TrainingConfig(epochs=3, captions_per_image=2, distillation=0.7, dropout=0.3, grid_dropout=0.1)
LEAST_REPLAYED = 300


def retrain_before(champion: Captioner, data: RetrainingData, out: Path, *, cache_dir: Path) -> Captioner:
    """The champion, retrained on each new row three times, beside as many of the base and 300 at least.

    The base is replayed with the champion's own captions. New words begin at random, and all words are distilled; both
    are switched off in the code of today, which has no option for it. Choosing rows are not learned, and where there
    were fewer than twelve nothing was interpolated: so nothing is here.
    """
    wanted = max(len(data.new), LEAST_REPLAYED)
    replayed = _in_its_words(champion, sorted(data.base, key=lambda row: row.sha256)[:wanted], cache_dir)
    rows = [replace(row, split=manifest.TRAIN) for row in (*data.new, *replayed)]
    annotators = [text for row in data.new for text in row.references]
    with patch("training.learning.new_words.place"), patch("training.learning.step.Teacher.measure"):
        train(rows, out, OPTIONS, start_from=champion, annotators=annotators, cache_dir=cache_dir)
    return checkpoint.load(out)


def _in_its_words(captioner: Captioner, rows: Sequence[Row], cache_dir: Path) -> list[Row]:
    found = hypotheses(captioner, rows, captioner.decoding.quick(), cache_dir)
    return [replace(row, references=(each.text,)) for row, each in zip(rows, found, strict=True)]
