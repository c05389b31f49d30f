"""What SQL knows of drafts with signals, and of what was learned from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.store.drafts import calibrations as module
from backend.store.store import Store
from tests.factories import correction, draft, saved

SIGNALS = {"margin": 1.0}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


def test_only_drafts_that_a_version_made_and_somebody_saw_are_learned_from(store: Store) -> None:
    shown, withheld = draft(1, text="a dog", signals=SIGNALS), draft(2, text="", withheld="a cat", signals=SIGNALS)
    store.add_drafts(1, [shown, withheld, draft(5, text="a cow")])
    store.show_instead(1, [draft(3, text="copied", signals=SIGNALS, from_task=7)])
    store.record(saved(*(correction(number, "a dog") for number in (1, 2, 3, 4, 5))))
    found = store.answered_drafts(1)
    assert [(each.draft, each.texts, each.signals) for each in found] == [("a dog", ("a dog",), SIGNALS)]
    assert store.count_answered(1) == 1
    assert store.answered_drafts(2) == []


def test_the_latest_corrections_are_learned_from(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LATEST", 2)
    store.add_drafts(1, [draft(number, text="a dog", signals=SIGNALS) for number in (1, 2, 3)])
    for number in (2, 3, 1):
        store.record(saved(correction(number, f"{number} dogs")))
    assert [each.texts for each in store.answered_drafts(1)] == [("3 dogs",), ("1 dogs",)]
    assert store.count_answered(1) == 3


def test_the_newest_calibration_is_the_one_that_learned_something(store: Store) -> None:
    assert (store.newest_calibration(1), store.calibration_number(1)) == (None, 0)
    store.add_calibration(1, 5, corrections=60, accepted=30, calibration={"bias": 0.5}, reliability={"ece": 0.1})
    store.add_calibration(1, 9, corrections=80, accepted=2, calibration=None, reliability=None)
    found, last = store.newest_calibration(1), store.newest_calibration(1, learned=False)
    assert found
    assert last
    assert (found.seq, found.calibration, found.reliability) == (5, {"bias": 0.5}, {"ece": 0.1})
    assert (last.seq, last.corrections, last.accepted, last.calibration) == (9, 80, 2, None)
    assert store.calibration_number(1) == found.id
    assert store.newest_calibration(2) is None
