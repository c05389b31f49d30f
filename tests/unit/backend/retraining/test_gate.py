"""The evaluation sets of a candidate: roles of a snapshot's rows, bases of the same kind, and interim looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.retraining.gate import BASE_ROWS, Contender, ProjectGate
from tests.factories import settings
from training.config import DecodingConfig
from training.data import manifest
from training.data.manifest import BLIND, DEV, HELD_OUT, TRAIN, Row
from training.decoding.beam_search import Hypothesis
from training.gate import gate
from training.gate.gate import Verdict

CAPTIONS = ("a red dot on a white wall", "two dogs run over the green grass", "a man in a blue boat")


def rows(split: str, number: int, first: int = 0) -> list[Row]:
    found = range(first, first + number)
    return [Row(Path(f"/{n}.png"), f"{split}{n:060x}", (CAPTIONS[n % 3],), split) for n in found]


class Says:
    """A captioner that is right about a share of the images."""

    decoding = DecodingConfig(beam=3)

    def __init__(self, right: float) -> None:
        self.right = right

    def caption(self, row: Row, number: int) -> str:
        return row.references[0] if (number % 20) < 20 * self.right else "a cat sits on a red wall"


@pytest.fixture
def contenders(monkeypatch: pytest.MonkeyPatch) -> tuple[Contender, Contender]:
    def told(captioner: Says, several: list[Row], decoding: Any, cache: Path, progress: Any) -> list[Hypothesis]:
        assert decoding == Says.decoding, "both with the candidate's"
        progress(len(several), len(several))
        return [Hypothesis(captioner.caption(row, n), 0.5, ()) for n, row in enumerate(several)]

    monkeypatch.setattr("training.evaluation.evaluate.hypotheses", told)
    return Contender("p1-v1", Says(0.5)), Contender("p1-v2", Says(0.9))  # type: ignore[arg-type]


def project_gate(tmp_path: Path, corrected: list[Row], base: list[Row] = [], past: list[Verdict] = []) -> ProjectGate:  # noqa: B006
    return ProjectGate(settings(tmp_path), 1, corrected, base, past)


def test_held_out_and_blind_rows_alone_are_evaluation_sets(tmp_path: Path, contenders: tuple[Contender, ...]) -> None:
    corrected = [*rows(HELD_OUT, 120), *rows(BLIND, 100), *rows(TRAIN, 50), *rows(DEV, 30)]
    told: list[tuple[int, int]] = []
    judging = project_gate(tmp_path, corrected)
    verdict = judging.verdict(*contenders, lambda done, total: told.append((done, total)))
    assert judging.pairs == verdict.pairs == 220
    assert [(found.role, found.pairs) for found in verdict.sets] == [(gate.CORRECTIONS, 120), (gate.BLIND, 100)]
    assert verdict.promotes
    assert not verdict.provisional
    assert told[-1] == (440, 440)
    assert [change.of for change in verdict.forgetting] == ["the oldest tenth of the held-out corrections"]
    worse = judging.verdict(*contenders[::-1])
    assert worse.decision == gate.REJECT
    assert worse.sets[0].worst


def test_a_base_of_the_same_kind_is_an_evaluation_set(tmp_path: Path, contenders: tuple[Contender, ...]) -> None:
    corrected = rows(HELD_OUT, 120)
    verdict = project_gate(tmp_path, corrected, rows(DEV, BASE_ROWS + 9)).verdict(*contenders)
    assert [(found.role, found.pairs) for found in verdict.sets] == [(gate.CORRECTIONS, 120), (gate.BASE, BASE_ROWS)]
    other = [Row(Path("/x.png"), "0", ("circle above square",), DEV)]
    assert len(project_gate(tmp_path, corrected, other).verdict(*contenders).sets) == 1


@pytest.mark.usefixtures("contenders")
def test_forgetting_the_base_rejects_where_it_is_protected(tmp_path: Path) -> None:
    class Forgets(Says):
        def caption(self, row: Row, number: int) -> str:
            return "a cat sits on a red wall" if row.split == DEV else super().caption(row, number)

    corrected, base = rows(HELD_OUT, 120), rows(DEV, 120)
    for protect, decision in (("off", gate.PROMOTE), ("on", gate.REJECT)):
        protecting = settings(tmp_path, CAPTIONER_PROTECT_BASE=protect)
        found = ProjectGate(protecting, 1, corrected, base, []).verdict(
            Contender("p1-v1", Says(0.5)),  # type: ignore[arg-type]
            Contender("p1-v2", Forgets(0.9)),  # type: ignore[arg-type]
        )
        assert found.decision == decision
        assert " on the base's development images (-" in found.reason
        assert found.forgetting[0].of == "the base's development images"
        assert found.forgetting[0].bleu_4 < -10


def test_a_first_model_has_no_champion(tmp_path: Path, contenders: tuple[Contender, ...]) -> None:
    verdict = project_gate(tmp_path, rows(HELD_OUT, 30)).verdict(None, contenders[1])
    assert verdict.promotes
    assert verdict.provisional
    assert not project_gate(tmp_path, rows(TRAIN, 30)).verdict(None, contenders[1]).promotes


def test_a_set_that_has_judged_before_asks_for_more_evidence(tmp_path: Path, contenders: tuple[Contender, ...]) -> None:
    past: list[Verdict] = []
    levels = []
    for _ in range(3):
        past.append(project_gate(tmp_path, rows(HELD_OUT, 150), past=past).verdict(*contenders))
        levels.append(past[-1].sets[0].level)
    assert [found.sets[0].interim_looks for found in past] == [0, 1, 2]
    assert levels == sorted(levels, reverse=True)
    grown = project_gate(tmp_path, rows(HELD_OUT, 300), past=past).verdict(*contenders)
    assert grown.sets[0].interim_looks == 3, "although half of its pairs have never judged"
    few = project_gate(tmp_path, rows(HELD_OUT, 60)).verdict(*contenders)
    assert project_gate(tmp_path, rows(HELD_OUT, 60), past=[few]).verdict(*contenders).sets[0].interim_looks == 0
    assert few.provisional


def test_the_errors_of_a_whole_project_stay_within_the_limit(tmp_path: Path, contenders: tuple[Contender, ...]) -> None:
    past: list[Verdict] = []
    spent = 0.0
    for _ in range(12):
        verdict = project_gate(tmp_path, rows(HELD_OUT, 100), past=past).verdict(*contenders)
        spent += verdict.sets[0].level
        past.append(replace(verdict, sets=(replace(verdict.sets[0], pairs=40),)))  # the set has doubled since
    assert 0.036 < spent <= 0.0375


def test_a_first_model_that_nothing_was_compared_with_spends_nothing(
    tmp_path: Path, contenders: tuple[Contender, ...]
) -> None:
    first = project_gate(tmp_path, rows(HELD_OUT, 100)).verdict(None, contenders[0])
    assert not first.provisional
    second = project_gate(tmp_path, rows(HELD_OUT, 100), past=[first]).verdict(*contenders)
    assert second.sets[0].interim_looks == 0


def test_the_gate_follows_the_settings(tmp_path: Path, contenders: tuple[Contender, ...]) -> None:
    strict = settings(tmp_path, CAPTIONER_GATE_POLICY="improvement", CAPTIONER_GATE_MARGIN="2")
    verdict = ProjectGate(strict, 1, rows(HELD_OUT, 120), [], []).verdict(*contenders)
    assert (verdict.policy, verdict.margin) == ("improvement", 2.0)
    assert manifest.BLIND not in {found.role for found in verdict.sets}
