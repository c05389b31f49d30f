"""What corrections change before any retrain: drafts of a new subject, reranked by retrieval from 100 and 350 of them.

    python -m benchmarks.retrieval --data flickr8k --out DIR [--quick]

The base has never seen winter, as in `benchmarks.adaptation`; with the same DIR it is taken from there. The beam is
reranked by similarity to the corrections of the nearest images, as the backend does it from the first correction on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.adaptation import CORRECTIONS, EPOCHS, SCORED, base_recipe
from benchmarks.adaptation_scenarios import Scenario, scenarios
from benchmarks.report import report
from benchmarks.trained import trained
from training.captioner import checkpoint
from training.captioner.captioner import Captioner, pooled
from training.data import datasets
from training.data.manifest import Row
from training.decoding.reuse import Correction
from training.errors import TrainingError
from training.evaluation.evaluate import hypotheses
from training.features.features import Inputs
from training.gate.bootstrap import resamples
from training.metrics.cider_score import cider_d_each

NEIGHBOURS = 20
MEANINGS = {
    "retrieval_{}_cider_d_change": "CIDEr-D on other winter images, minus that without retrieval",
    "retrieval_{}_lower": "the 95 % interval's lower end, by the paired bootstrap",
    "retrieval_{}_upper": "its upper end",
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the base and features.")
@click.option("--encoder", default="tf_efficientnet_lite2", show_default=True)
@click.option("--weights", default="imagenet", show_default=True, help="Of the encoder.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, out: Path, encoder: str, weights: str, quick: bool) -> None:
    numbers = (20, 40) if quick else (100, CORRECTIONS[-1])
    scored, epochs = (12, 1) if quick else (SCORED, EPOCHS)
    try:
        rows = datasets.read("flickr8k", data, limit=400 if quick else None)
        winter = scenarios(rows, numbers[-1], scored)[0]
        cache = out / "features"
        folder = trained(winter.base.rows, out / "base-winter", base_recipe(encoder, weights, epochs), cache)
        study = Study(winter, checkpoint.load(folder), cache)
        figures = study.figures(numbers)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    report("retrieval", figures, {key.format(number): text for number in numbers for key, text in MEANINGS.items()})


@dataclass(frozen=True)
class Study:
    scenario: Scenario
    base: Captioner
    cache: Path

    def figures(self, numbers: Sequence[int]) -> dict[str, float]:
        corrections = self.scenario.corrections(self._drafts(self.scenario.corrected))
        without = self._scores()
        self.base.decoding = replace(self.base.decoding, neighbours=NEIGHBOURS)
        counts = resamples(len(without))  # (R, N)
        figures: dict[str, float] = {}
        for number in numbers:
            learned = corrections[:number]
            written = [Correction(row.sha256, row.references[0], n, float(n), True) for n, row in enumerate(learned)]
            self.base.retrieval = self.base.retrieval_with(written, self._features(learned))
            change = self._scores() - without
            lower, upper = np.percentile(counts @ change / len(change), [2.5, 97.5])
            figures |= dict(zip((key.format(number) for key in MEANINGS), (change.mean(), lower, upper), strict=True))
            self.base.retrieval = None
        return figures

    def _scores(self) -> np.ndarray:
        """CIDEr-D of the draft of each scored image: (N,)."""
        return np.array(cider_d_each(self._drafts(self.scenario.scored), self.scenario.references))

    def _drafts(self, rows: Sequence[Row]) -> list[str]:
        return [found.text for found in hypotheses(self.base, rows, None, self.cache)]

    def _features(self, rows: Sequence[Row]) -> np.ndarray:
        """Pooled features (N, C), as the backend keeps them."""
        inputs = Inputs(self.base, rows, self.cache)
        with torch.inference_mode():
            grids = [inputs.grid([row.sha256])[0] for row in rows]  # (P, C) each
        return np.stack([np.frombuffer(pooled(grid), dtype=np.float16) for grid in grids])


if __name__ == "__main__":
    main()
