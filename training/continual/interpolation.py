"""Weight interpolation between a captioner and what it became by retraining.

Retraining often forgets a part of what was known; a point on the line between old and new weights keeps most of both
(Wortsman et al., 2022, "Robust fine-tuning of zero-shot models").
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from training import metrics
from training.captioner.captioner import Captioner
from training.data.manifest import Row
from training.evaluation.evaluate import hypotheses

SHARES = (1.0, 0.75, 0.5)
FEWEST_ROWS = 50
"""With fewer images to choose by, the choice would be noise: 17 of winter chose the worst of three shares."""
SHOWN = 0.8
"""How often new words have to be in drafts at least, over how often they are without interpolation."""


@torch.no_grad()
def interpolate(before: Captioner, after: Captioner, share: float) -> Captioner:
    """A captioner `share` of the way from `before` to `after`, which may know more words than `before`.

    The rows of new words are those of `after`. Weights that are the same in both stay so to the last bit, so that
    cached features of a frozen encoder stay valid.
    """
    captioner = copy.deepcopy(after)
    old = {name: value.to(after.device) for name, value in before.state_dict().items()}
    for name, value in captioner.state_dict().items():
        if not value.is_floating_point():
            continue
        known = value[: len(old[name])] if value.dim() else value  # rows of new words stand at the end
        known.copy_(torch.lerp(old[name].to(value.dtype), known, share))
    return captioner


def best_interpolation(
    before: Captioner,
    after: Captioner,
    choosing: Sequence[Sequence[Row]],
    learned: Sequence[Row],
    cache_dir: Path,
    *,
    usual: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Captioner, float]:
    """The interpolation with the highest sum of CIDEr-D over the sets of rows, and its share; of equals the one nearest
    to `after`.

    `choosing` are rows of what was new and rows of what was known, neither those that are learned nor those of the
    gate. With fewer than FEWEST_ROWS new ones it is the `usual` share, or the least above it at which the new words of
    the `learned` rows are still in their drafts, for the known ones would always choose the least. So few known rows do
    not count. `progress` gets captions done and captions to do.
    """
    sets = [rows for rows in choosing if len(rows) >= FEWEST_ROWS]
    if len(choosing[0]) < FEWEST_ROWS:
        return _least_that_shows(before, after, learned, cache_dir, usual)
    rows = [row for several in sets for row in several]
    candidates: list[tuple[float, float, Captioner]] = []
    for number, share in enumerate(SHARES):
        captioner = interpolate(before, after, share)

        def report(done: int, total: int, earlier: int = number) -> None:
            if progress:
                progress(earlier * total + done, len(SHARES) * total)

        found = iter(hypotheses(captioner, rows, after.decoding.quick(), cache_dir, report))
        scores = [
            metrics.cider_d([next(found).text for _ in several], [row.references for row in several]).value
            for several in sets
        ]
        candidates.append((sum(scores), share, captioner))
    _, share, captioner = max(candidates, key=lambda candidate: candidate[:2])
    return captioner, share


def _least_that_shows(
    before: Captioner, after: Captioner, learned: Sequence[Row], cache_dir: Path, usual: float
) -> tuple[Captioner, float]:
    """The interpolation with the least share from `usual` on whose drafts have the new words.

    A word may be learned so well that half of the way says it as often, or so narrowly that it is said at the end only.
    """
    known = len(before.vocabulary)

    def is_new(text: str) -> bool:
        return max(after.vocabulary.encode(text), default=0) >= known

    rows = [row for row in learned if any(is_new(text) for text in row.references)]

    def shown(captioner: Captioner) -> int:
        """How many drafts have a new word."""
        found = hypotheses(captioner, rows, after.decoding.quick(), cache_dir, two_views=True) if rows else []
        return sum(is_new(each.text) for each in found)

    shares = [share for share in sorted(SHARES) if usual <= share < 1.0]
    wanted = SHOWN * shown(after) if shares else 0.0
    for share in shares:
        captioner = interpolate(before, after, share)
        if shown(captioner) >= wanted:
            return captioner, share
    return after, 1.0
