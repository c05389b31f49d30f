from math import sqrt

import pytest

from training.errors import TrainingError
from training.gate.bootstrap import Difference
from training.gate.rule import Comparison, Decision, Policy, decide, significance_level


def compared(value: float, reach: float, name: str = "corrections", pairs: int = 200) -> Comparison:
    return Comparison(name, pairs, Difference(value, value - reach, value + reach, reach / 1.96, 0.025))


def test_all_interim_looks_share_one_error() -> None:
    assert significance_level(0) == 0.025
    assert significance_level(1) == 0.00625
    assert significance_level(9) == pytest.approx(0.0125 / 90)
    assert 0.037 < sum(significance_level(looks) for looks in range(1000)) <= 0.0375
    with pytest.raises(TrainingError, match="-1 times"):
        significance_level(-1)


@pytest.mark.parametrize(
    ("comparisons", "policy", "outcome"),
    [
        ([compared(0.5, 1.4)], "margin", "promote"),
        ([compared(0.5, 1.6)], "margin", "hold"),
        ([compared(-0.1, 0.5)], "margin", "hold"),  # within the margin, but nothing gained
        ([compared(-0.5, 0.4)], "margin", "reject"),
        (
            [compared(1.0, 1.5), compared(-0.5, 0.4, "base")],
            "margin",
            "promote",
        ),  # base: surely worse, but within the margin
        ([compared(1.0, 1.5), compared(-1.5, 0.4, "base")], "margin", "reject"),
        ([compared(1.0, 1.5), compared(-0.5, 0.8, "base")], "margin", "hold"),
        ([compared(1.0, 0.9)], "improvement", "promote"),
        ([compared(1.0, 1.1)], "improvement", "hold"),
        ([compared(1.0, 0.9), compared(0.0, 0.5, "base")], "improvement", "hold"),
        ([compared(-1.0, 0.9)], "improvement", "reject"),
    ],
)
def test_the_rule(comparisons: list[Comparison], policy: Policy, outcome: str) -> None:
    assert decide(comparisons, comparisons[0].difference.value, policy=policy).outcome == outcome


def test_all_corrections_must_have_gained_not_only_each_set() -> None:
    comparisons = [compared(0.1, 0.5, "corrections"), compared(0.1, 0.5, "blind")]
    assert decide(comparisons, 0.05).outcome == "promote"
    assert decide(comparisons, -0.05).outcome == "hold"


def test_a_rejection_names_the_set() -> None:
    decision = decide([compared(2.0, 1.0), compared(-3.0, 1.0, "base data")], 2.0)
    assert decision == Decision("reject", "BLEU-4 -3.0 on base data (-4.0 to -2.0): worse than the champion there")


def test_a_promotion_says_how_sure_it_is() -> None:
    decision = decide([compared(2.0, 1.0)], 2.0)
    assert decision.reason == (
        "BLEU-4 +2.0 on corrections (+1.0 to +3.0): nowhere below the champion's by more than the margin of 1"
    )
    assert "everywhere above the champion's" in decide([compared(2.0, 1.0)], 2.0, policy="improvement").reason


@pytest.mark.parametrize(
    ("value", "policy", "line"), [(0.5, "margin", -1.0), (0.5, "improvement", 0.0), (-0.2, "margin", 0.0)]
)
def test_so_many_more_pairs_would_decide(value: float, policy: Policy, line: float) -> None:
    decision = decide([compared(value, 3.0, pairs=200)], value, policy=policy)
    assert decision.outcome == "hold"
    assert decision.more_pairs is not None
    assert f"about {decision.more_pairs} more pairs of corrections would decide" in decision.reason
    # with as many, bounds narrowed by the root of the pairs decide, and with a few fewer they do not yet
    for more, decided in ((decision.more_pairs + 1, True), (decision.more_pairs - 2, False)):
        narrowed = compared(value, 3.0 * sqrt(200 / (200 + more)))
        assert (decide([narrowed], value, policy=policy).outcome != "hold") == decided
    assert abs(value - line) < 3.0


def test_the_slowest_set_is_waited_for_or_the_one_that_rejects() -> None:
    decision = decide([compared(1.0, 3.0), compared(0.0, 3.0, "blind")], 1.0)
    assert "more pairs of blind would decide" in decision.reason
    assert decision.more_pairs == 1600
    decision = decide([compared(1.0, 3.0), compared(-2.0, 3.0, "base")], 1.0)
    assert "more pairs of base would decide" in decision.reason
    assert decision.more_pairs == 250


@pytest.mark.parametrize(("value", "policy"), [(0.0, "margin"), (0.0, "improvement"), (-0.001, "margin")])
def test_on_the_line_no_number_of_pairs_decides(value: float, policy: Policy) -> None:
    decision = decide([compared(value, 3.0)], value, policy=policy)
    assert (decision.outcome, decision.more_pairs) == ("hold", None)
    assert "unlikely to decide" in decision.reason


@pytest.mark.parametrize(
    ("value", "reach", "policy", "outcome"),
    [
        (0.5, 5.0, "margin", "promote"),
        (-1.0, 5.0, "margin", "promote"),
        (-1.1, 5.0, "margin", "hold"),
        (-6.0, 5.0, "margin", "reject"),
        (0.5, 5.0, "improvement", "promote"),
        (0.0, 5.0, "improvement", "hold"),
    ],
)
def test_provisional_decisions_go_by_what_was_found(value: float, reach: float, policy: Policy, outcome: str) -> None:
    decision = decide([compared(value, reach, pairs=60)], value, policy=policy, missing=40)
    assert decision.outcome == outcome
    assert decision.more_pairs == (40 if outcome == "hold" else None)


def test_provisional_decisions_heed_every_set() -> None:
    assert decide([compared(3.0, 5.0), compared(-1.5, 5.0, "base")], 3.0, missing=40).outcome == "hold"
