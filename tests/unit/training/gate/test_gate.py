import json
from dataclasses import replace
from typing import Any

import pytest

from training.errors import TrainingError
from training.gate.gate import BASE, BLIND, CORRECTIONS, Evaluation, EvaluationSet, Verdict, judge
from training.metrics import bleu, cider_d, rouge_l
from training.metrics.bleu_statistics import bleu_statistics, corpus_bleu_4

PLACES = ["beach", "street", "field", "park", "garden", "river", "hill", "road"]
THINGS = ["dog", "cat", "man", "woman", "boy", "girl", "horse", "bird"]


def truth(number: int) -> str:
    return f"a {THINGS[number % 8]} runs over the {PLACES[number // 8 % 8]} towards a red ball"


def evaluation(model: str, pairs: int, wrong: int = 0, name: str = "held-out corrections") -> Evaluation:
    """Captions of so many images, the last so many of them with a word or two wrong."""
    truths = tuple(truth(number) for number in range(pairs))
    marred = tuple(text.replace("runs over", "sits near") for text in truths)
    return Evaluation(
        model=model,
        evaluation_set=name,
        set_hash=f"hash of {name}",
        decoding="beam:5",
        hypotheses=truths[: pairs - wrong] + marred[pairs - wrong :],
        references=tuple((text, f"here {text}") for text in truths),
    )


def evaluated(
    role: Any, pairs: int, champion_wrong: int = 0, candidate_wrong: int = 0, name: str = "", **more: Any
) -> EvaluationSet:
    names = {CORRECTIONS: "held-out corrections", BLIND: "blind tasks", BASE: "base data"}
    champion, candidate = (
        evaluation(model, pairs, wrong, name or names[role])
        for model, wrong in (("p1-v1", champion_wrong), ("p1-v2", candidate_wrong))
    )
    return EvaluationSet(role, candidate, champion, **more)


def with_ids(each: EvaluationSet) -> EvaluationSet:
    assert each.champion is not None
    ids = tuple(f"photo {number}" for number in range(len(each.candidate.hypotheses)))
    return replace(each, candidate=replace(each.candidate, ids=ids), champion=replace(each.champion, ids=ids))


@pytest.mark.parametrize(
    ("champion_wrong", "candidate_wrong", "decision"),
    [(100, 20, "promote"), (20, 100, "reject"), (60, 59, "promote"), (60, 60, "hold")],
)
def test_against_a_champion(champion_wrong: int, candidate_wrong: int, decision: str) -> None:
    verdict = judge([evaluated(CORRECTIONS, 200, champion_wrong, candidate_wrong)])
    assert verdict.decision == decision
    assert verdict.promotes == (decision == "promote")
    assert verdict.reason.startswith("BLEU-4 ")
    assert "on held-out corrections" in verdict.reason
    assert not verdict.provisional
    assert (verdict.pairs, verdict.margin, verdict.policy) == (200, 1.0, "margin")


def test_an_image_text_mismatch_rejects_whatever_the_scores() -> None:
    better = evaluated(CORRECTIONS, 200, 100, 20)
    verdict = judge([better], mismatch="the captions are those of other images")
    assert (verdict.decision, verdict.reason) == ("reject", "the captions are those of other images")
    assert verdict.sets[0].difference, "the scores are kept"
    assert judge([replace(better, champion=None)], mismatch="mismatch").promotes, "a first model has no champion"


def test_what_a_verdict_keeps_of_a_set() -> None:
    both = evaluated(CORRECTIONS, 200, 20, 100, interim_looks=2)
    assert both.champion is not None
    verdict = judge([both])
    [found] = verdict.sets
    assert (found.name, found.role, found.pairs) == ("held-out corrections", CORRECTIONS, 200)
    assert (found.set_hash, found.interim_looks) == ("hash of held-out corrections", 2)
    assert found.level == pytest.approx(0.0125 / 6)
    assert found.champion is not None
    assert found.difference is not None
    for scores, model in ((found.champion, both.champion), (found.candidate, both.candidate)):
        texts = model.hypotheses, model.references
        assert (scores.bleu_4, scores.rouge_l, scores.cider_d) == (bleu(*texts), rouge_l(*texts), cider_d(*texts))
    assert "smooth:method1" in found.candidate.bleu_4.signature
    assert found.difference.value == pytest.approx(found.candidate.bleu_4.value - found.champion.bleu_4.value)
    assert found.difference.level == found.level
    assert found.difference.lower < found.difference.value < found.difference.upper
    assert (verdict.champion_score, verdict.candidate_score) == (found.champion.bleu_4, found.candidate.bleu_4)


def test_a_further_interim_look_has_wider_bounds() -> None:
    first, fifth = (
        judge([evaluated(CORRECTIONS, 200, 60, 50, interim_looks=looks)]).sets[0].difference for looks in (0, 4)
    )
    assert first is not None
    assert fifth is not None
    assert fifth.value == first.value
    assert fifth.lower < first.lower


def test_the_same_evaluations_get_the_same_verdict() -> None:
    sets = [evaluated(CORRECTIONS, 150, 30, 40), evaluated(BASE, 120, 10, 12)]
    assert judge(sets) == judge(sets)


@pytest.mark.parametrize(("blind", "roles"), [(99, ["pooled"]), (100, [CORRECTIONS, BLIND]), (0, [CORRECTIONS])])
def test_corrections_and_blind_tasks_pool_until_each_has_100(blind: int, roles: list[str]) -> None:
    sets = [
        evaluated(CORRECTIONS, 120, 40, 20, interim_looks=1),
        evaluated(BLIND, blind, blind // 2, blind // 3, interim_looks=3),
    ]
    verdict = judge(sets)
    assert [found.role for found in verdict.sets] == roles
    assert verdict.pairs == 120 + blind
    assert verdict.candidate_score is not None
    texts = [sum((getattr(each.candidate, what) for each in sets), ()) for what in ("hypotheses", "references")]
    assert verdict.candidate_score.value == pytest.approx(bleu(*texts).value)
    if roles == ["pooled"]:
        [pooled] = verdict.sets
        assert pooled.interim_looks == 3
        assert pooled.set_hash == "hash of held-out corrections+hash of blind tasks"
        assert pooled.name == "held-out corrections and blind tasks"


def test_every_set_can_reject() -> None:
    better = evaluated(CORRECTIONS, 200, 100, 20)
    for role in (BLIND, BASE):
        verdict = judge([better, evaluated(role, 200, 20, 100)], protect_base=True)
        assert verdict.decision == "reject"
        assert ("blind tasks" if role == BLIND else "base data") in verdict.reason
        assert "held-out" not in verdict.reason


def test_without_protection_the_base_tells_what_was_forgotten_and_decides_nothing() -> None:
    better, worse, forgets = (
        evaluated(CORRECTIONS, 200, 100, 20),
        evaluated(CORRECTIONS, 200, 20, 100),
        evaluated(BASE, 200, 20, 100),
    )
    verdict = judge([better, forgets])
    alone = judge([better])
    difference = verdict.sets[-1].difference
    assert difference is not None
    bounds = f"({difference.lower:+.1f} to {difference.upper:+.1f})"
    assert verdict.promotes
    assert verdict.reason == f"{alone.reason}; reported only: {difference.value:+.1f} on base data {bounds}"
    assert [change.of for change in verdict.forgetting] == ["base data"]
    assert verdict.forgetting[0].bleu_4 == pytest.approx(difference.value)
    assert difference.upper < 0

    learns = evaluated(BASE, 200, 100, 20)
    assert judge([worse, learns]).decision == "reject", "held-out corrections do not need the base to reject"
    assert judge([worse, learns]).reason.startswith("BLEU-4 -")
    assert judge([better, learns], mismatch="other images").decision == "reject"
    assert judge([better, learns], mismatch="other images").reason.startswith("other images; reported only: +")


@pytest.mark.parametrize(("pairs", "provisional"), [(1, True), (99, True), (100, False)])
def test_provisional_under_100_corrections(pairs: int, provisional: bool) -> None:
    assert judge([evaluated(CORRECTIONS, pairs), evaluated(BASE, 150)]).provisional == provisional


def test_few_pairs_are_judged_by_what_was_found() -> None:
    same, worse = evaluated(CORRECTIONS, 30, 5, 5), evaluated(CORRECTIONS, 30, 5, 6)
    assert judge([same]).decision == "promote"
    verdict = judge([worse])
    assert (verdict.decision, verdict.more_pairs) == ("hold", 70)
    assert judge([worse], margin=50).decision == "promote"
    assert judge([evaluated(CORRECTIONS, 30, 0, 30)]).decision == "reject"
    assert judge([same], policy="improvement").decision == "hold"


def test_policy_improvement_asks_for_a_gain_beyond_chance() -> None:
    some = [evaluated(CORRECTIONS, 200, 60, 59)]
    assert judge(some).decision == "promote"
    verdict = judge(some, policy="improvement")
    assert (verdict.decision, verdict.policy) == ("hold", "improvement")
    assert judge([evaluated(CORRECTIONS, 200, 100, 20)], policy="improvement").decision == "promote"


def test_without_a_champion_the_floor_decides() -> None:
    good = EvaluationSet(CORRECTIONS, evaluation("p1-v1", 5, 4))
    verdict = judge([good], floor=5.0)
    assert (verdict.decision, verdict.champion_score) == ("promote", None)
    assert "floor of 5" in verdict.reason
    assert verdict.sets[0].difference is None
    poor = EvaluationSet(CORRECTIONS, replace(evaluation("p1-v1", 5), hypotheses=("zebra",) * 5))
    verdict = judge([poor], floor=5.0)
    assert (verdict.decision, verdict.more_pairs) == ("hold", None)
    assert "below the floor of 5" in verdict.reason
    assert judge([poor], floor=0.0).decision == "promote"


@pytest.mark.parametrize(
    "sets",
    [
        [],
        [evaluated(CORRECTIONS, 0)],
        [EvaluationSet(CORRECTIONS, evaluation("v1", 0))],
        [evaluated(BASE, 150, 90, 10)],
    ],
)
def test_nothing_held_out_promotes_nothing(sets: list[EvaluationSet]) -> None:
    verdict = judge(sets, floor=0.0)
    assert verdict.decision == "hold"
    assert verdict.provisional
    assert verdict.reason.startswith("no held-out corrections to judge by yet")
    assert verdict.candidate_score is None


def test_forgetting_is_a_number() -> None:
    # the newest corrections first: the oldest tenth are the last, which the candidate has wrong
    corrections = evaluated(CORRECTIONS, 105, 0, 11, times=tuple(float(-number) for number in range(105)))
    base = evaluated(BASE, 120, 10, 30)
    on_base, on_old = judge([corrections, base]).forgetting
    assert base.champion is not None
    assert (on_base.of, on_base.pairs) == ("base data", 120)
    ours, theirs = ((each.hypotheses, each.references) for each in (base.candidate, base.champion))
    assert on_base.bleu_4 == pytest.approx(bleu(*ours).value - bleu(*theirs).value)
    assert on_base.cider_d == pytest.approx(cider_d(*ours).value - cider_d(*theirs).value)
    assert (on_old.of, on_old.pairs) == ("the oldest tenth of the held-out corrections", 11)
    assert corrections.champion is not None
    old = [
        float(corpus_bleu_4(bleu_statistics(each.hypotheses[-11:], each.references[-11:]).sum(axis=0)))
        for each in (corrections.candidate, corrections.champion)
    ]
    assert on_old.bleu_4 == pytest.approx(old[0] - old[1])
    assert on_old.cider_d < 0
    newest = replace(corrections, times=tuple(float(number) for number in range(105)))
    assert judge([newest]).forgetting[0].bleu_4 == 0


def test_the_oldest_of_few_is_one_and_of_unknown_none() -> None:
    assert judge([evaluated(CORRECTIONS, 3, times=(2.0, 1.0, 3.0))]).forgetting[0].pairs == 1
    assert judge([evaluated(CORRECTIONS, 30)]).forgetting == ()
    timed = evaluated(CORRECTIONS, 20, times=tuple(map(float, range(20))))
    assert judge([timed, evaluated(BLIND, 10)]).forgetting == ()
    assert judge([timed, evaluated(BLIND, 10, times=(0.5,) * 10)]).forgetting[0].pairs == 3


def test_the_worst_examples_show_both_captions() -> None:
    both = with_ids(evaluated(CORRECTIONS, 120, 0, 7))
    [found] = judge([both]).sets
    assert len(found.worst) == 5
    for example in found.worst:
        number = int(example.image.removeprefix("photo "))
        assert number >= 113
        assert example.champion == truth(number)
        assert "sits near" in example.candidate
        assert example.references == both.candidate.references[number]
        assert example.change < 0
    assert [each.change for each in found.worst] == sorted(each.change for each in found.worst)
    assert judge([evaluated(CORRECTIONS, 120, 7, 0)]).sets[0].worst == ()


@pytest.mark.parametrize(
    "change",
    [
        {"set_hash": "other"},
        {"decoding": "beam:1"},
        {"evaluation_set": "cold"},
        {"references": (("a dog",),) * 5},
        {"hypotheses": ("a dog",) * 4},
        {"ids": tuple("abcde")},
    ],
)
def test_refuses_to_compare_unlike_things(change: dict[str, Any]) -> None:
    both = evaluated(CORRECTIONS, 5)
    with pytest.raises(TrainingError):
        judge([replace(both, candidate=replace(both.candidate, **change))])


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([evaluated(CORRECTIONS, 5), evaluated(CORRECTIONS, 5)], "one evaluation set of each role"),
        ([replace(evaluated(CORRECTIONS, 5), role="pooled")], "one evaluation set of each role"),
        ([evaluated(CORRECTIONS, 5, times=(1.0,))], "5 pairs but 1 times"),
        ([evaluated(CORRECTIONS, 5, interim_looks=-1)], "-1 times before"),
        ([evaluated(CORRECTIONS, 5), EvaluationSet(BASE, evaluation("p1-v2", 5))], "different models"),
        (
            [evaluated(CORRECTIONS, 5), EvaluationSet(BASE, evaluation("b", 5), evaluation("p1-v1", 5))],
            "different models",
        ),
    ],
)
def test_refuses_sets_that_do_not_belong_together(sets: list[EvaluationSet], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        judge(sets)


@pytest.mark.parametrize("rules", [{"policy": "luck"}, {"margin": -1.0}, {"margin": float("nan")}])
def test_refuses_other_rules(rules: dict[str, Any]) -> None:
    with pytest.raises(TrainingError):
        judge([evaluated(CORRECTIONS, 5)], **rules)


def test_parts_of_a_pool_are_decoded_alike() -> None:
    other = evaluated(BLIND, 5)
    assert other.champion is not None
    greedy = replace(
        other, candidate=replace(other.candidate, decoding="g"), champion=replace(other.champion, decoding="g")
    )
    with pytest.raises(TrainingError, match="differ in decoding"):
        judge([evaluated(CORRECTIONS, 5), greedy])


@pytest.mark.parametrize(
    "sets",
    [
        [],
        [EvaluationSet(CORRECTIONS, evaluation("a", 3, 2))],
        [with_ids(evaluated(CORRECTIONS, 30, 3, 12, times=tuple(map(float, range(30))))), evaluated(BASE, 20, 2, 3)],
    ],
)
def test_verdict_survives_json(sets: list[EvaluationSet]) -> None:
    verdict = judge(sets)
    text = json.dumps(verdict.to_json(), allow_nan=False)
    assert Verdict.from_json(json.loads(text)) == verdict
