"""Figures of the benchmarks that speak to a running backend, from answers that are given here."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import click
import pytest

import labeling_config
from backend.label_studio import wire
from benchmarks import loop, photos, promotion, slowdown, webhook

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def retrain(start: float | None, end: float | None, state: str = "done") -> Any:
    times = {"started_at": None if start is None else later(start), "ended_at": None if end is None else later(end)}
    return SimpleNamespace(**times, state=state, active=state == "running", outcome="")


def test_loop_drafting_one_by_one_is_compared_with_as_many_at_once() -> None:
    figures = loop._drafting([0.2, 0.1, 0.9], tasks=10, together=0.5)
    assert figures["draft_one_ms"] == 200
    assert figures["one_by_one_over_batch"] == pytest.approx(4)


def test_loop_corrections_are_what_label_studio_sends() -> None:
    task = {"id": 3, "project": loop.PROJECT, "data": {"image": "http://images.example/3.jpg"}}
    project = {"id": loop.PROJECT, "label_config": labeling_config.shipped("caption")}
    event = wire.event(loop._created(7, task, "a red dot", project))
    [correction] = event.corrections
    assert (event.action, correction.annotation_id, correction.task_id) == ("ANNOTATION_CREATED", 8, 3)
    assert correction.texts == ("a red dot",)


def test_webhook_counts_only_what_was_sent_during_a_retrain() -> None:
    ran = [retrain(10, 20), retrain(30, None, "running"), retrain(None, None, "queued")]
    assert [webhook._ran(ran, later(at)) for at in (9, 10, 15, 20, 21, 30, 99)] == [
        False, True, True, True, False, True, True
    ]  # fmt: skip


def test_slowdown_is_the_ratio_of_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    class Measured(slowdown._Measurement):
        """Drafts take ten milliseconds, thirty during a retrain."""

        def _draft(self) -> float:
            return 10.0

        def _retrain(self) -> None:
            self.disturbed += [30.0, 30.0, 90.0]

    monkeypatch.setattr(slowdown, "served_version", lambda url: "v1")
    ran = [SimpleNamespace(seconds=4.0), SimpleNamespace(seconds=6.0)]
    store: Any = SimpleNamespace(retrains=lambda *_: ran)
    load: Any = SimpleNamespace(url="http://backend.example")
    figures = Measured(load, store, rounds=2, idle=5, beside=3, corrections=1).run()
    assert figures["predict_slowdown"] == 3
    assert figures["predict_slowdown_p95"] == pytest.approx(9)
    assert (figures["idle_predictions"], figures["training_predictions"]) == (15, 6)
    assert figures["retrain_seconds"] == 5


def test_slowdown_without_a_draft_during_a_retrain_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Measured(slowdown._Measurement):
        """No draft is made during its retrains."""

        def _draft(self) -> float:
            return 10.0

        def _retrain(self) -> None:
            pass

    monkeypatch.setattr(slowdown, "served_version", lambda url: "v1")
    load: Any = SimpleNamespace(url="http://backend.example")
    with pytest.raises(click.ClickException, match="worker's log"):
        Measured(load, None, rounds=1, idle=1, beside=1, corrections=1).run()  # type: ignore[arg-type]


def test_promotion_finds_mixed_late_and_failed_answers() -> None:
    said = {"one": ["a", "b", "c", "d"], "two": ["e", "b", "g", "h"]}
    ones, twos = ([(version, text) for text in texts] for version, texts in said.items())
    answers = [
        promotion._Answer(0.0, 0.1, 0, ones),
        promotion._Answer(1.0, 0.5, 0, ones),  # the champion moves at 1.0
        promotion._Answer(2.0, 0.1, 0, [*ones[:2], *twos[2:]]),  # two versions in one answer
        promotion._Answer(3.0, 0.1, 0, twos),
        promotion._Answer(4.0, 0.1, 0, ones),  # late: the new version has answered already
        promotion._Answer(5.0, 0.1, 0, [("two", "a"), *twos[1:]]),  # what "two" does not say
        promotion._Answer(6.0, 9.0, 0, [], "500"),
    ]
    load: Any = SimpleNamespace(answers=answers[::-1])
    figures = promotion._figures(load, said, [(1.0, "two")])
    assert (figures["requests"], figures["requests_per_second"]) == (7, 1)
    assert (figures["failed"], figures["mixed"], figures["late_answers"]) == (1, 2, 1)
    assert figures["swap_seconds"] == pytest.approx(2.1)
    assert figures["texts_that_differ"] == 3
    assert figures["answer_p50_ms"] == pytest.approx(100)


def test_photos_leaves_out_scores_that_nothing_was_held_out_for() -> None:
    verdict: dict[str, Any] = {"pairs": 0, "decision": "hold", "champion_score": None, "candidate_score": None}
    drafts = {"kept_share": 0.5, "edits": 0.25}
    assert photos._figures(drafts, verdict) == {**drafts, "pairs": 0, "promoted": 0}
    verdict |= {"decision": "promote", "champion_score": {"value": 7.5}, "candidate_score": {"value": 8.0}}
    figures = photos._figures(drafts, verdict)
    assert (figures["promoted"], figures["champion_bleu4"], figures["candidate_bleu4"]) == (1, 7.5, 8.0)
