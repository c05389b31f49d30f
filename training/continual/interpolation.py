"""Between a captioner and what it became by learning on: weights on the straight line from the one to the other.

What was learnt last is often bought with a part of what was known; a point between the two keeps most of both
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

SHARES = (1.0, 0.75, 0.5, 0.25)
FEWEST_ROWS = 12
"""With fewer images to choose by, the choice would be noise."""


@torch.no_grad()
def interpolate(before: Captioner, after: Captioner, share: float) -> Captioner:
    """A captioner `share` of the way from `before` to `after`, which may know more words than `before`.

    New words keep what `after` learnt of them; weights that are the same in both stay so to the bit, so that cached
    features of a frozen encoder stay valid.
    """
    blended = copy.deepcopy(after)
    old = {name: value.to(after.device) for name, value in before.state_dict().items()}
    for name, value in blended.state_dict().items():
        if not value.is_floating_point():
            continue
        known = value[: len(old[name])] if value.dim() else value  # rows of new words stand at the end
        known.copy_(torch.lerp(old[name].to(value.dtype), known, share))
    return blended


def best_interpolation(
    before: Captioner,
    after: Captioner,
    rows: Sequence[Row],
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Captioner, float]:
    """The blend with the highest BLEU-4 on `rows`, and its share; of equals the one that learnt most.

    `progress` is told how many of the captions by which it is chosen there are.
    `rows` are neither trained on nor the ones that judge. With fewer than FEWEST_ROWS it is `after` itself.
    """
    if len(rows) < FEWEST_ROWS:
        return after, 1.0
    references = [row.references for row in rows]
    found: list[tuple[float, float, Captioner]] = []
    for number, share in enumerate(SHARES):
        captioner = interpolate(before, after, share)

        def tell(done: int, total: int, before: int = number) -> None:
            if progress:
                progress(before * total + done, len(SHARES) * total)

        told = hypotheses(captioner, rows, after.decoding.quick(), cache_dir, tell)
        found.append((metrics.bleu([item.text for item in told], references).value, share, captioner))
    _, share, captioner = max(found, key=lambda item: item[:2])
    return captioner, share
