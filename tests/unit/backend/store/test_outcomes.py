from __future__ import annotations

from pathlib import Path

import pytest

from backend.store.database import now
from backend.store.drafts.outcomes import WithheldDraft
from backend.store.drafts.selections import Chosen, Order
from backend.store.store import Store
from backend.store.tables import retrains
from tests.factories import correction, draft, saved


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


def test_what_each_correction_began_as(store: Store) -> None:
    hashes = {task: f"{task:064d}" for task in range(1, 6)}
    store.place(1, [hashes[1]], 1.0)
    store.place(1, list(hashes.values()), 0.0)
    store.add_drafts(
        1,
        [
            draft(1, "v1", "", image_sha256=hashes[1], withheld="a dog"),
            draft(2, "v1", "", image_sha256=hashes[2], withheld="a cat"),  # its chance was too low
            draft(3, "v1", "a dot", image_sha256=hashes[3]),
            draft(4, "v1", "a dot", image_sha256=hashes[4], from_task=3),
            draft(6, "v1", ""),  # by an earlier release, which did not know the image
        ],
    )
    asked = {"annotator": 7, "lead_time_seconds": 0.5, "reasons": ("count",)}
    store.record(saved(correction(3, "two dots", **asked), *(correction(task) for task in (1, 2, 4, 5, 6))))
    found = {each.task: each for each in store.corrected_drafts(1)}
    assert list(found) == [1, 2, 3, 4, 5, 6]
    assert [each.blind for each in found.values()] == [True, False, False, False, False, True]
    assert [each.draft for each in found.values()] == ["", "", "a dot", "a dot", None, ""]
    assert [each.version for each in found.values()] == ["v1", "v1", "v1", None, None, "v1"]
    assert (found[3].texts, found[3].annotator, found[3].reasons) == (("two dots",), 7, ("count",))
    assert found[3].lead_time_seconds == 0.5


def test_what_versions_would_have_drafted_for_blind_tasks_that_are_captioned(store: Store) -> None:
    store.add_drafts(1, [draft(1, "v1", "", withheld="a dog"), draft(2, "v1", "", withheld="nobody captions it")])
    store.add_drafts(1, [draft(1, "v2", "", withheld="two dogs"), draft(3, "v1", "a dot")])
    store.record(saved(correction(1), correction(3)))
    assert store.withheld_drafts(1) == [WithheldDraft(1, "v1", "a dog"), WithheldDraft(1, "v2", "two dogs")]
    assert store.withheld_drafts(2) == []


def test_annotators_keep_their_order_whatever_becomes_of_their_annotations(store: Store) -> None:
    people = {1: 40, 2: 7, 3: 40, 4: None, 5: 3}
    store.record(saved(*(correction(task, annotator=number) for task, number in people.items())))
    assert store.annotators(1) == [40, 7, 3]
    store.record(saved(deleted_annotations=(1, 2)))
    assert store.annotators(1) == [40, 7, 3]


def test_how_many_corrections_there_were_when_a_version_was_made(store: Store) -> None:
    first = store.record(saved(correction(1), correction(2), correction(3, ""))).seq
    second = store.record(saved(correction(4))).seq
    store.record(saved(correction(1, "changed", 9), correction(5)))
    common = {"project_id": 1, "frozen": True, "attempt": 1, "state": "done", "requested_at": now()}
    with store.writing(1) as connection:
        for version, seq in (("p1-v1", first), ("p1-v2", second), (None, second)):
            row = {**common, "snapshot": str(version), "cutoff_seq": seq, "version": version}
            connection.execute(retrains.insert().values(**row))
    assert store.learned_corrections(1) == {"p1-v1": 2, "p1-v2": 3}


def test_what_was_ever_selected_and_whether_by_a_strategy(store: Store) -> None:
    for picked in ([Chosen(1, False), Chosen(2, True), Chosen(3, True)], [Chosen(3, False), Chosen(1, True)]):
        selection = store.order_selection(1, Order("margin", 3))
        assert store.save_choice(selection, "v1", None, picked)
        store.mark_stored(selection, [task for task, _ in picked], [])
    later = store.order_selection(1, Order("margin", 3))
    assert store.save_choice(later, "v1", None, [Chosen(4, False)])  # Label Studio does not have it yet
    assert store.selected_tasks(1) == {1: False, 2: True, 3: False}
    assert store.selected_tasks(2) == {}
