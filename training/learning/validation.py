"""Scores on the development rows while a captioner is trained."""

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
    """Scores the captioner as it is at the moment, on rows that it does not learn from."""

    def __init__(
        self, captioner: Captioner, inputs: Inputs, rows: Sequence[Row], config: TrainingConfig, stage: Stage
    ) -> None:
        self._captioner, self._inputs, self._rows, self._config = captioner, inputs, rows, config
        self._rewarded = stage.is_rewarded
        self.chooses = CIDER_D if stage.is_rewarded or config.chosen_by == "cider_d" else LOSS
        """The name of the score that chooses the epoch."""
        self.samples: list[str] = []  # captions of the last validation

    def scores(self) -> dict[str, float]:
        """`dev_loss` in nats a word, except in a stage of rewards, which do not lower it; where CIDEr-D chooses
        `dev_cider_d` and `dev_bleu4`, and of the captions `dev_distinct_words` and `dev_mean_length`.
        """
        if not self._rows:
            return {}
        self._captioner.eval()
        scores = {}
        if not self._rewarded:
            scores[LOSS] = self._loss()
        if self.chooses == CIDER_D:
            self.samples = self._captions()
            references = [row.references for row in self._rows]
            scores[CIDER_D] = metrics.cider_d(self.samples, references).value
            scores["dev_bleu4"] = metrics.bleu(self.samples, references).value
            # rewards may favour short captions of few words
            scores["dev_distinct_words"] = metrics.distinct_words(self.samples)
            scores["dev_mean_length"] = metrics.mean_length(self.samples)
        return scores

    @torch.inference_mode()
    def _loss(self) -> float:
        total = words = 0.0
        decoder = self._captioner.decoder
        for batch in batches(self._rows, self._config, self._captioner):
            grid = self._inputs.grid(batch.hashes)
            with autocast(self._captioner.device):
                encoded = decoder.prepare(grid.float())
            loss, weight = losses.cross_entropy(decoder, encoded, batch.words, batch.weights, self._config)
            total, words = total + loss.item(), words + weight.item()
        return total / max(words, LEAST)

    @torch.inference_mode()
    def _captions(self) -> list[str]:
        decoding = self._captioner.decoding.quick()
        captions = []
        for first in range(0, len(self._rows), BATCH):
            grid = self._inputs.grid([row.sha256 for row in self._rows[first : first + BATCH]])
            captions += [hypothesis.text for hypothesis in self._captioner.generate(grid, decoding)]
        return captions
