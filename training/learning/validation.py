"""How good a captioner is on the dev rows while it is being trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from training import metrics
from training.captioner.captioner import BATCH, Captioner
from training.config import TrainingConfig
from training.data.manifest import Row
from training.features.batches import batches
from training.features.features import Inputs
from training.learning import losses
from training.learning.losses import LEAST
from training.learning.stages import Stage
from training.runtime.device import autocast

LOSS, CIDER_D = "dev_loss", "dev_cider_d"


class Validator:
    """Scores of the captioner as it is at the moment in a stage, on rows that it does not learn from."""

    def __init__(
        self, captioner: Captioner, inputs: Inputs, rows: Sequence[Row], config: TrainingConfig, stage: Stage
    ) -> None:
        self._captioner, self._inputs, self._rows, self._config = captioner, inputs, rows, config
        self._rewarded = stage.is_rewarded
        self.chooses = CIDER_D if stage.is_rewarded or config.choose_by == "cider_d" else LOSS
        """The name of the score that chooses among the epochs."""
        self.samples: list[str] = []  # what it said last time

    def scores(self) -> dict[str, float]:
        """`dev_loss` in nats a word, but for a stage of rewards, which do not lower it; where CIDEr-D chooses
        `dev_cider_d` and `dev_bleu4`, and of the captions `dev_distinct_words` and `dev_mean_length`.
        """
        if not self._rows:
            return {}
        self._captioner.eval()
        found = {}
        if not self._rewarded:
            found[LOSS] = self._loss()
        if self.chooses == CIDER_D:
            self.samples = self._captions()
            references = [row.references for row in self._rows]
            found[CIDER_D] = metrics.cider_d(self.samples, references).value
            found["dev_bleu4"] = metrics.bleu(self.samples, references).value
            # rewards are soon earned by short captions of few words
            found["dev_distinct_words"] = metrics.distinct_words(self.samples)
            found["dev_mean_length"] = metrics.mean_length(self.samples)
        return found

    @torch.inference_mode()
    def _loss(self) -> float:
        total = words = 0.0
        for batch in batches(self._rows, self._config, self._captioner):
            grid = self._inputs.grid(batch.hashes)
            with autocast(self._captioner.device):
                encoded = self._captioner.decoder.prepare(grid.float())
            loss, weight = losses.cross_entropy(
                self._captioner.decoder, encoded, batch.words, batch.weights, self._config
            )
            total, words = total + loss.item(), words + weight.item()
        return total / max(words, LEAST)

    @torch.inference_mode()
    def _captions(self) -> list[str]:
        decoding = self._captioner.decoding.quick()
        said = []
        for first in range(0, len(self._rows), BATCH):
            grid = self._inputs.grid([row.sha256 for row in self._rows[first : first + BATCH]])
            said += [item.text for item in self._captioner.tell(grid, decoding)]
        return said
