"""Stores predictions in Label Studio so that no request takes long, however many its project has."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from backend.label_studio.client import LabelStudio

LONGEST_SECONDS = 5.0
"""No import is to take longer."""
COUNTED_SECONDS = 0.001
"""What Label Studio takes to count one prediction, until it has been measured."""
_MEASURABLE = 500


class Predictions:
    """The predictions of one project.

    After an import Label Studio counts the predictions of the whole project anew, which takes seconds where there are
    thousands, unless the feature flag `client.IMPORT_FLAG` is set, as `captioner up` does. Where an import would take
    too long each prediction is stored by itself.
    """

    def __init__(self, client: LabelStudio, project_id: int) -> None:
        self._client, self._project_id = client, project_id
        self._counted: int | None = None  # predictions that Label Studio counts after an import; None: not asked yet
        self._each = COUNTED_SECONDS

    def store(self, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Store them as `import_predictions` takes them; returns how many were stored."""
        if not predictions:
            return 0
        if self._counted is None:
            little = self._client.counts_little(self._project_id)
            self._counted = 0 if little else sum(self._client.model_versions(self._project_id).values())
            self._each = 0.0 if little else COUNTED_SECONDS
        if self._counted * self._each > LONGEST_SECONDS:
            for prediction in predictions:
                self._client.add_prediction(prediction)
            return len(predictions)
        began = time.monotonic()
        stored = self._client.import_predictions(self._project_id, predictions)
        self._counted += stored
        if self._each and self._counted >= _MEASURABLE:
            self._each = (time.monotonic() - began) / self._counted
        return stored
