from typing import Any

import pytest

from training.errors import TrainingError
from training.gate.verdict import Verdict
from training.metrics import Score

SCORE = {
    "name": "BLEU-4",
    "value": 21.0,
    "signature": "bleu4|nltk:3.10|smooth:method1|tok:captioner-1",
    "corpus": "n:7",
}
OF_OLD = {
    "decision": "reject",
    "provisional": True,
    "reason": "BLEU-4 21.0 is below the champion's 24.0 by 3.0, more than the margin of 1",
    "pairs": 7,
    "champion_score": None,
    "candidate_score": SCORE,
    "margin": 1.0,
}
"""As releases before intervals wrote it."""


def test_a_verdict_of_an_earlier_release_is_read() -> None:
    verdict = Verdict.from_json(OF_OLD)
    assert (verdict.decision, verdict.pairs, verdict.reason) == ("reject", 7, OF_OLD["reason"])
    assert verdict.candidate_score == Score(**SCORE)
    assert (verdict.policy, verdict.sets, verdict.forgetting, verdict.more_pairs) == ("margin", (), (), None)


@pytest.mark.parametrize(
    "value",
    [
        {"decision": "promote"},
        OF_OLD | {"colour": "red"},
        OF_OLD | {"sets": [{"name": "corrections"}]},
        OF_OLD | {"forgetting": [{"of": "base"}]},
        OF_OLD | {"candidate_score": {"value": 1}},
    ],
)
def test_other_objects_are_refused(value: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="not a verdict"):
        Verdict.from_json(value)


def test_a_verdict_that_counts_looks_is_read() -> None:
    found = {
        "name": "held-out corrections",
        "role": "corrections",
        "pairs": 7,
        "set_hash": "hash",
        "looks": 3,
        "level": 0.025,
        "champion": None,
        "candidate": {"bleu_4": SCORE, "rouge_l": SCORE, "cider_d": SCORE},
        "difference": None,
        "worst": [],
    }
    verdict = Verdict.from_json(OF_OLD | {"sets": [found]})
    assert verdict.sets[0].interim_looks == 3
    assert Verdict.from_json(verdict.to_json()) == verdict
