"""Withheld drafts, scored on what people typed without seeing one: no draft can have biased those captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.reports.economics.estimates import Estimate
from backend.store.drafts.outcomes import CorrectedDraft, WithheldDraft
from training.gate.bootstrap import resamples
from training.metrics.bleu_statistics import COLUMNS, bleu_statistics, corpus_bleu_4

MOST_TASKS = 5000
"""The newest blind tasks that are scored; more would change nothing but the time that the bootstrap takes."""
FEWEST_TASKS = 10
"""Of fewer blind tasks BLEU-4 says nothing."""


@dataclass(frozen=True)
class BlindSlice:
    """What `tasks` blind tasks say of each version's drafts.

    `drafted` marks the tasks that the version drafted: (tasks,). `sums` are the sums of its BLEU statistics, and last
    the number of its drafts: in the first row of all tasks, then of each resample, (1 + RESAMPLES, COLUMNS + 1).
    """

    tasks: int
    drafted: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]

    def number(self, *versions: str) -> int:
        """Blind tasks that any of the versions drafted."""
        some = [self.drafted[version] for version in versions if version in self.drafted]
        return int(np.any(some, axis=0).sum()) if some else 0

    def bleu_4(self, version: str) -> Estimate | None:
        """BLEU-4 of the version's withheld drafts, with a 95 % interval by bootstrap over tasks; None of few."""
        if self.number(version) < FEWEST_TASKS:
            return None
        value, resampled = self.mixed({version: 1.0})
        low, high = np.quantile(resampled, [0.025, 0.975])
        return Estimate(value, float(low), float(high))

    def mixed(self, weights: Mapping[str, float]) -> tuple[float, np.ndarray]:
        """BLEU-4 of drafts by several versions in these proportions, and that of each resample of the tasks.

        A version's statistics count by their mean a draft, whatever the number of its drafts. A resample without any of
        its drafts has those of all.
        """
        total = np.zeros(())
        for version, weight in weights.items():
            if version in self.sums:
                sums = self.sums[version].astype(np.float64)
                sums = np.where(sums[:, -1:] > 0, sums, sums[:1])
                total = total + weight * self.tasks * sums[:, :-1] / sums[:, -1:]
        values = corpus_bleu_4(total)
        return float(values[0]), values[1:]

    def share_drafted(self, weights: Mapping[str, float]) -> float:
        """How much of these proportions is of versions with a withheld draft."""
        return sum(weight for version, weight in weights.items() if version in self.drafted)


def blind_slice(corrected: Sequence[CorrectedDraft], withheld: Sequence[WithheldDraft]) -> BlindSlice:
    """Of the corrections of blind tasks, and what versions would have drafted for them."""
    references: dict[int, list[str]] = {}
    for each in corrected:
        if each.blind:
            references.setdefault(each.task, []).extend(each.texts)
    tasks = list(references)[-MOST_TASKS:]
    places = {task: place for place, task in enumerate(tasks)}
    newest = {(each.version, each.task): each.text for each in withheld if each.task in places}
    if not newest:
        return BlindSlice(len(tasks), {}, {})
    rows = bleu_statistics(list(newest.values()), [references[task] for _, task in newest])
    statistics: dict[str, np.ndarray] = {}
    for (version, task), row in zip(newest, rows, strict=True):
        own = statistics.setdefault(version, np.zeros((len(tasks), COLUMNS + 1), dtype=np.float32))
        own[places[task], :-1], own[places[task], -1] = row, 1
    counts = np.vstack([np.ones((1, len(tasks)), dtype=np.float32), resamples(len(tasks))])
    return BlindSlice(
        len(tasks),
        {version: own[:, -1] > 0 for version, own in statistics.items()},
        {version: counts @ own for version, own in statistics.items()},
    )
