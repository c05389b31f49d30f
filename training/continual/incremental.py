"""Learning on: a champion takes in what is new and rehearses a part of what it has learnt before.

The cost follows what is new: of what is known only a sample is rehearsed (Robins, 1995), however much there is. The
rehearsal may be in the champion's own words (Kim & Rush, 2016: sequence-level distillation), which keep its manner of
speaking: annotators mend what is wrong in a draft and leave its wording, and so should what is learnt.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.captioner import checkpoint
from training.config import TrainingConfig
from training.continual import interpolation
from training.data import manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.evaluation.evaluate import hypotheses
from training.learning.train import train
from training.vocabulary import Style

log = logging.getLogger(__name__)

LEAST_REHEARSED = 300
"""Rows rehearsed where so many are known, however little is new: a few corrections must not cost what they do not
concern."""
CHOOSING_ROWS = 100
"""Rows at most by which a blend is chosen: each of them is captioned several times."""


@dataclass(frozen=True)
class RetrainingData:
    """What a champion is to learn, all rows apart from those it is judged by.

    `new` is what it has not seen. `known` it has learnt, in the words of the same annotators; `base` it was made of
    before it met them. `choosing` rows are not learnt: they choose how far to go. Of `forgotten` images, named by their
    hashes, it is not to remember any longer what was said.
    """

    new: Sequence[Row]
    known: Sequence[Row] = ()
    base: Sequence[Row] = ()
    choosing: Sequence[Row] = ()
    forgotten: Collection[str] = ()


def retrain(
    champion: Path,
    lessons: RetrainingData,
    out: Path,
    *,
    replay: float = 1.0,
    own_words: bool = True,
    seed: str = "",
    cache_dir: Path,
    device: str = "auto",
    config: TrainingConfig | None = None,
    rehearsing: Callable[[int, int], None] | None = None,
    blending: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Path:
    """A checkpoint at `out`: that at `champion`, which has learnt the new rows and `replay` rehearsed ones for each.

    With `own_words` the base is rehearsed in the champion's words; `rehearsing` is told how many of them there are.
    `seed` decides which rows are rehearsed. `options` go to `fit.train`, `blending` to `best_interpolation`. Raises
    TrainingError where there is nothing new, else as `fit.train` does.
    """
    if not lessons.new:
        raise TrainingError("There is nothing new to learn: no row that the champion has not learnt already.")
    known, base = _rehearsed(lessons, replay, seed)
    said_by_people = [replace(row, split=manifest.TRAIN) for row in (*lessons.new, *known, *base)]
    if own_words:
        base = _in_its_words(base, champion, cache_dir, device, rehearsing)
    rows = [replace(row, split=manifest.TRAIN) for row in (*lessons.new, *known, *base)]
    options = {"style": Style.of([text for row in (*lessons.new, *known) for text in row.references]), **options}
    config = config or TrainingConfig.retraining(checkpoint.encoder_of(champion))
    options = {"remembered": said_by_people, "forgotten": lessons.forgotten, **options}
    train(rows, out, config, start_from=champion, cache_dir=cache_dir, device=device, **options)
    choosing = _some(lessons.choosing, CHOOSING_ROWS, seed)
    before, after = (checkpoint.load(folder, device) for folder in (champion, out))
    captioner, share = interpolation.best_interpolation(before, after, choosing, cache_dir, blending)
    if share == 1.0:
        return out
    log.info("%.0f %% of the way from the champion is best on %d rows.", 100 * share, len(choosing))
    return checkpoint.save(out, captioner, checkpoint.read_info(out)["extra"] | {"blend": share})


def _rehearsed(lessons: RetrainingData, replay: float, seed: str) -> tuple[list[Row], list[Row]]:
    """Samples of what is known and of the base, half of each where both have enough; no image that is new."""
    new = {row.sha256 for row in lessons.new}
    known = {row.sha256: row for row in lessons.known if row.sha256 not in new}
    base = {row.sha256: row for row in lessons.base if row.sha256 not in new and row.sha256 not in known}
    wanted = max(round(replay * len(lessons.new)), LEAST_REHEARSED) if replay else 0
    of_base = min(len(base), max(wanted // 2, wanted - len(known)))
    return _some(known.values(), wanted - of_base, seed), _some(base.values(), of_base, seed)


def _some(rows: Any, most: int, seed: str) -> list[Row]:
    """At most so many of the rows; which ones depends on the seed and on nothing of their order."""
    ordered = sorted(rows, key=lambda row: row.sha256)
    return ordered if len(ordered) <= most else random.Random(seed).sample(ordered, most)


def _in_its_words(
    rows: Sequence[Row],
    champion: Path,
    cache_dir: Path,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> list[Row]:
    """The rows with the champion's captions in place of the human ones."""
    if not rows:
        return []
    captioner = checkpoint.load(champion, device)
    # of what they are learned from: so no more is encoded than the training has to
    told = hypotheses(captioner, rows, captioner.decoding.quick(), cache_dir, progress, brief=True)
    return [replace(row, references=(item.text,)) for row, item in zip(rows, told, strict=True) if item.text]
