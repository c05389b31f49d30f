import json
from dataclasses import replace
from typing import Any

import pytest

from training.errors import TrainingError
from training.gate import Evaluation, Verdict, judge

TRUTH = "a small red circle sits above a large blue square"
WRONG = "a small red circle sits below a large blue square"


def evaluation(model: str, right: int, wrong: int) -> Evaluation:
    """An evaluation with so many captions right and so many with one word wrong."""
    pairs = right + wrong
    return Evaluation(
        model=model,
        voting_set="held_out",
        set_hash="abc",
        decoding="beam:5",
        hypotheses=(TRUTH,) * right + (WRONG,) * wrong,
        references=((TRUTH,),) * pairs,
    )


@pytest.mark.parametrize(
    ("champion_right", "candidate_right", "margin", "decision", "said"),
    [
        (60, 90, 1.0, "promote", "not below"),
        (60, 60, 1.0, "promote", "not below"),
        (60, 60, 0.0, "promote", "not below"),
        (91, 90, 1.0, "promote", "within the margin of 1"),
        (91, 90, 0.1, "reject", "more than the margin of 0.1"),
        (90, 60, 1.0, "reject", "more than the margin of 1"),
        (90, 60, 100.0, "promote", "within the margin of 100"),
    ],
)
def test_against_a_champion(champion_right: int, candidate_right: int, margin: float, decision: str, said: str) -> None:
    champion = evaluation("p1-v1", champion_right, 120 - champion_right)
    candidate = evaluation("p1-v2", candidate_right, 120 - candidate_right)
    verdict = judge(champion, candidate, margin=margin)
    assert verdict.decision == decision
    assert verdict.promotes == (decision == "promote")
    assert said in verdict.reason
    assert not verdict.provisional
    assert (verdict.pairs, verdict.margin) == (120, margin)
    assert verdict.champion_score is not None
    assert verdict.candidate_score is not None
    assert (verdict.candidate_score.value >= verdict.champion_score.value) == (candidate_right >= champion_right)


@pytest.mark.parametrize(("pairs", "provisional"), [(1, True), (99, True), (100, False)])
def test_provisional_under_100_pairs(pairs: int, provisional: bool) -> None:
    assert judge(evaluation("a", pairs, 0), evaluation("b", pairs, 0)).provisional == provisional


def test_without_a_champion_the_floor_decides() -> None:
    good = judge(None, evaluation("b", 1, 4), floor=5.0)
    assert (good.decision, good.champion_score) == ("promote", None)
    assert "floor of 5" in good.reason
    poor = replace(evaluation("b", 0, 5), hypotheses=("a dog",) * 5)
    verdict = judge(None, poor, floor=5.0)
    assert verdict.decision == "reject"
    assert "floor of 5" in verdict.reason
    assert judge(None, poor, floor=0.0).decision == "promote"


@pytest.mark.parametrize("champion", [evaluation("a", 0, 0), None])
def test_nothing_held_out_promotes_nothing(champion: Evaluation | None) -> None:
    verdict = judge(champion, evaluation("b", 0, 0), floor=0.0)
    assert verdict.decision == "reject"
    assert verdict.provisional
    assert verdict.reason == "no held-out corrections to judge by yet"
    assert verdict.candidate_score is None


@pytest.mark.parametrize(
    "change",
    [
        {"set_hash": "other"},
        {"decoding": "beam:1"},
        {"voting_set": "cold"},
        {"references": ((WRONG,),) * 5},
        {"hypotheses": (TRUTH,) * 4},
    ],
)
def test_refuses_to_compare_unlike_things(change: dict[str, Any]) -> None:
    with pytest.raises(TrainingError):
        judge(evaluation("a", 3, 2), replace(evaluation("b", 3, 2), **change))


@pytest.mark.parametrize("champion", [None, evaluation("a", 3, 2)])
def test_verdict_survives_json(champion: Evaluation | None) -> None:
    verdict = judge(champion, evaluation("b", 3, 2))
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_from_json_refuses_other_objects() -> None:
    with pytest.raises(TrainingError, match="not a verdict"):
        Verdict.from_json({"decision": "promote"})
