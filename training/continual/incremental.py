"""Retraining a champion on what is new, with experience replay.

The cost grows with what is new: of what the champion has learned before only a sample is replayed (Robins, 1995),
however much there is.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.continual.interpolation import best_interpolation
from training.data import manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.features.batches import batches
from training.features.features import Inputs
from training.learning.elastic.launch import train
from training.runtime.device import autocast
from training.vocabulary import UNKNOWN

log = logging.getLogger(__name__)

LEAST_REPLAYED = 300
"""Rows replayed in each epoch at least where the encoder is trained along, for it forgets more than a decoder."""
FEW_REPLAYED, MOST_PER_NEW = 200, 3
"""The same of a frozen encoder, but no more than so many for each new row. With fewer, drafts of what the base knows
get the new words."""
LEAST_SHOWN, MOST_REPEATED = 1200, 32
"""With a frozen encoder, how often new rows are shown at least, all together, and each of them at most for that."""
IN_STYLE = 0.1
"""Least mean probability that the champion gives the first words of captions in its style. Where all captions begin
with "Photo:" it is next to nothing."""
CHOOSING_ROWS = 100
"""Rows at most of each kind that choose the interpolation, for each of them is captioned several times."""


@dataclass(frozen=True)
class RetrainingData:
    """What a champion is retrained on; the rows of the gate are not among it.

    `new` rows it has not seen. `known` rows it has learned from the same annotators, `base` rows before it met them.
    `choosing` and `base_choosing` rows are not learned; they choose the interpolation. Images in `forgotten`, by their
    hashes, leave its retrieval memory.
    """

    new: Sequence[Row]
    known: Sequence[Row] = ()
    base: Sequence[Row] = ()
    choosing: Sequence[Row] = ()
    base_choosing: Sequence[Row] = ()
    forgotten: Collection[str] = ()


def retrain(
    champion: Captioner,
    data: RetrainingData,
    out: Path,
    *,
    replay: float = 1.0,
    seed: str = "",
    cache_dir: Path,
    device: str = "auto",
    config: TrainingConfig | None = None,
    interpolating: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Captioner:
    """The champion, retrained on the new rows and at least `replay` replayed rows for each; its checkpoint is saved at
    `out`.

    All epochs of the recipe are one here: the new rows come as often as it has epochs, and as long as there are enough,
    other rows are replayed each time. The champion itself stays as it is. `seed` decides which rows are replayed.
    `interpolating` is the progress callback of `best_interpolation`, `options` go to `train`. Raises TrainingError
    where there is nothing new, else as `train`.
    """
    if not data.new:
        raise TrainingError("There is nothing new to learn: no row that the champion has not learnt already.")
    config = config or TrainingConfig.retraining(champion.encoder.config)
    sample = _sample(data.new, CHOOSING_ROWS, seed)
    in_style = _in_style(champion, sample, cache_dir)
    if not in_style:  # replaying the base would teach its style against that of the annotators
        data = replace(data, base=())
    is_frozen = champion.encoder.config.trained == "none"
    least = min(FEW_REPLAYED, MOST_PER_NEW * len(data.new)) if is_frozen else LEAST_REPLAYED
    replayed_each = max(round(replay * len(data.new)), least) if replay and (data.known or data.base) else 0
    epochs = config.epochs or config.frozen_epochs
    if is_frozen:
        epochs = max(epochs, min(MOST_REPEATED, math.ceil(LEAST_SHOWN / len(data.new))))
    config = replace(config, epochs=min(config.epochs, 1), frozen_epochs=min(config.frozen_epochs, 1))
    replayed = _replayed(data, epochs * replayed_each, seed)
    rows = [replace(row, split=manifest.TRAIN) for row in (*list(data.new) * epochs, *replayed)]
    options["annotators"] = [text for row in (*data.new, *data.known) for text in row.references]
    options |= {"cache_dir": cache_dir, "device": device, "forgotten": data.forgotten}
    train(rows, out, config, start_from=champion, **options)
    trained = checkpoint.load(out, device)
    choosing = [_sample(several, CHOOSING_ROWS, seed) for several in (data.choosing, data.base_choosing)]
    captioner, share = best_interpolation(
        champion,
        trained,
        choosing,
        sample,
        cache_dir,
        usual=_usual_share(champion, in_style, replayed),
        progress=interpolating,
    )
    if share < 1.0:
        log.info("%.0f %% of the way from the champion is chosen.", 100 * share)
        checkpoint.save(out, captioner, checkpoint.read_info(out)["extra"] | {"interpolation": share})
    return captioner


@torch.inference_mode()
def _in_style(champion: Captioner, rows: Sequence[Row], cache_dir: Path) -> bool:
    """Whether the champion expects the captions of these rows to begin as they do."""
    champion.eval()
    inputs = Inputs(champion, rows, cache_dir, two_views=rows)
    first_words: list[float] = []  # their probabilities
    for batch in batches(inputs.rows, TrainingConfig(), champion):
        words = batch.words[:, :1]  # (B, 1, T)
        with autocast(champion.device):
            states = champion.decoder(inputs.grid(batch.hashes).float(), words[:, :, :1]).states
            probabilities = champion.decoder.logits(states)[:, 0, 0].float().softmax(dim=-1)  # (B, V)
        probabilities[:, UNKNOWN] = 0.0
        first_words += probabilities.gather(1, words[:, 0, 1:2])[:, 0].tolist()
    return not first_words or sum(first_words) / len(first_words) >= IN_STYLE


def _usual_share(champion: Captioner, in_style: bool, replayed: Sequence[Row]) -> float:
    """The share of the way that is taken where too few rows are there to choose it by."""
    if champion.encoder.config.trained != "none":
        return 1.0
    # What is not replayed is forgotten the more; but less of the way would leave drafts in the champion's style.
    return 0.5 if in_style and not replayed else 0.75


def _replayed(data: RetrainingData, wanted: int, seed: str) -> list[Row]:
    """Samples of the known rows and of the base, half of each where both have enough; no image that is new.

    Fewer rows than are wanted are replayed several times.
    """
    new = {row.sha256 for row in data.new}
    known = {row.sha256: row for row in data.known if row.sha256 not in new}
    base = {row.sha256: row for row in data.base if row.sha256 not in new and row.sha256 not in known}
    from_base = min(len(base), max(wanted // 2, wanted - len(known)))
    rows = [*_sample(known.values(), wanted - from_base, seed), *_sample(base.values(), from_base, seed)]
    return list(islice(cycle(rows), wanted)) if rows else []


def _sample(rows: Iterable[Row], most: int, seed: str) -> list[Row]:
    """`most` of the rows, or all; which ones depends on the seed and not on their order."""
    ordered = sorted(rows, key=lambda row: row.sha256)
    return ordered if len(ordered) <= most else random.Random(seed).sample(ordered, most)
