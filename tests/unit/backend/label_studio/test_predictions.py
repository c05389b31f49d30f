from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any

import pytest

from backend.label_studio import predictions as module
from backend.label_studio.client import LabelStudio
from backend.label_studio.predictions import Predictions
from tests.fakes import Answer, host


class Studio:
    """A Label Studio that takes a millisecond for each prediction it counts."""

    def __init__(self, held: int, little: bool) -> None:
        self.held, self.little, self.now, self.said = held, little, 0.0, list[str]()

    def counts_little(self, project_id: int) -> bool:
        return self.little

    def model_versions(self, project_id: int) -> dict[str, int]:
        return {"v1": self.held - 1, "somebody's": 1}

    def import_predictions(self, project_id: int, predictions: Any) -> int:
        self.held += len(predictions)
        self.now += 0.001 * (len(predictions) if self.little else self.held)
        self.said.append(f"all {len(predictions)}")
        return len(predictions)

    def add_prediction(self, prediction: Any) -> None:
        self.held += 1
        self.said.append("one")


def stored(studio: Studio, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> list[str]:
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: studio.now))
    predictions = Predictions(studio, 1)  # type: ignore[arg-type]
    for _ in range(times):
        assert predictions.store([{"task": 1}, {"task": 2}]) == 2
    assert predictions.store([]) == 0
    return studio.said


@pytest.mark.parametrize(("held", "little"), [(10, False), (4000, False), (10_000_000, True)])
def test_predictions_are_stored_together_where_that_is_fast(
    held: int, little: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stored(Studio(held, little), monkeypatch, times=3) == ["all 2"] * 3


def test_where_label_studio_would_count_for_long_each_is_stored_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stored(Studio(6000, little=False), monkeypatch) == ["one", "one"]
    assert stored(Studio(4997, little=False), monkeypatch, times=3) == ["all 2", "all 2", "one", "one"]


def test_a_faster_label_studio_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = Studio(4997, little=False)
    studio.now = -1e9
    fast = studio.import_predictions

    def ten_times_as_fast(project_id: int, predictions: Any) -> int:
        before = studio.now
        count = fast(project_id, predictions)
        studio.now = before + (studio.now - before) / 10
        return count

    monkeypatch.setattr(studio, "import_predictions", ten_times_as_fast)
    assert stored(studio, monkeypatch, times=5) == ["all 2"] * 5


@pytest.mark.parametrize(
    ("detail", "little"),
    [
        ("{'task': 0} contains invalid \"task\" field: task ID 0 not found in project x (id=1)", True),
        ("{'task': 0} contains invalid \"task\" field: corresponding task ID couldn't be retrieved", False),
    ],
)
def test_what_it_counts_is_asked_with_a_task_that_does_not_exist(detail: str, little: bool) -> None:

    def refuse(request: BaseHTTPRequestHandler) -> Answer:
        return Answer(400, json.dumps({"validation_errors": {"non_field_errors": [detail]}}).encode())

    with host() as studio:
        studio.answers["/api/projects/1/import/predictions"] = refuse
        assert LabelStudio(studio.url, "0" * 40).counts_little(1) is little
        assert len(studio.asked) == 1
