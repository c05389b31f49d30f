from __future__ import annotations

from pathlib import Path

import pytest

from backend.domain.corrections import Event
from backend.store.store import Revision, Store
from tests.factories import correction, draft, saved

SHA = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


def captions(found: list[Revision]) -> dict[int, str | None]:
    return {each.annotation_id: each.texts[0] if each.usable and not each.deleted else None for each in found}


def test_a_revision_says_that_corrections_changed_and_which(store: Store) -> None:
    assert (store.revision(1), store.changed_corrections(1, 0)) == (0, [])
    store.add_drafts(1, [draft(2, image_sha256=SHA)])
    store.record(saved(correction(1, "a dot"), correction(2, "two dots")))
    first = store.revision(1)
    assert captions(store.changed_corrections(1, 0)) == {1: "a dot", 2: "two dots"}
    assert [each.image_sha256 for each in store.changed_corrections(1, 0)] == [None, SHA]
    assert store.changed_corrections(1, first) == []
    store.record(saved(correction(2, "two red dots", second=5)))
    second = store.revision(1)
    assert second > first
    assert captions(store.changed_corrections(1, first)) == {2: "two red dots"}
    store.record(saved(correction(2, "two red dots", second=6, was_cancelled=True)))
    store.record(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(1, 77)))
    assert captions(store.changed_corrections(1, second)) == {1: None, 2: None, 77: None}
    store.record(saved(correction(3, "of another project", project_id=2)))
    assert store.revision(2) > store.revision(1)
    assert captions(store.changed_corrections(2, 0)) == {3: "of another project"}


def test_features_are_kept_by_project_encoder_and_image(store: Store) -> None:
    store.add_features(1, "e1", {"a": b"1", "b": b"2"})
    store.add_features(1, "e1", {"a": b"another", "c": b"3"})
    store.add_features(1, "e2", {"a": b"4"})
    store.add_features(2, "e1", {"a": b"5"})
    assert store.features(1, "e1", ["a", "c", "z"]) == {"a": b"1", "c": b"3"}
    assert store.features(1, "e1", [f"{number}" for number in range(2000)] + ["b"]) == {"b": b"2"}
    newest, found = store.new_features(1, "e1", 0)
    assert found == {"a": b"1", "b": b"2", "c": b"3"}
    assert store.new_features(1, "e1", newest) == (newest, {})
    store.add_features(1, "e1", {"d": b"6"})
    assert store.new_features(1, "e1", newest)[1] == {"d": b"6"}


def test_what_is_shown_instead_is_recorded_when_it_changes(store: Store) -> None:
    own, copy = draft(1, text="a dot"), draft(1, text="a red dot", from_task=9)
    store.add_drafts(1, [own])
    for shown in (own, copy, copy, own, own, copy):
        store.show_instead(1, [shown])
    assert store.get_drafts(1, [1], "v1") == [own, copy, own, copy]
    store.add_drafts(1, [draft(1, text="made again")])
    assert len(store.get_drafts(1, [1], "v1")) == 4
    # the annotator saw the copy
    store.record(saved(correction(1, "a red dot, corrected")))
    [found] = store.corrections(1)
    assert (found.draft_text, found.draft_version) == ("a red dot", None), "the words are no version's"


def test_drafts_wait_until_somebody_annotates_or_skips_their_task(store: Store) -> None:
    store.add_drafts(1, [draft(number, image_sha256=SHA) for number in range(1, 6)])
    store.add_drafts(1, [draft(6), draft(7, "v2", image_sha256=SHA)])
    store.record(saved(correction(1), correction(2, "", was_cancelled=True), correction(3)))
    store.record(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(3,)))
    store.record(Event("TASKS_DELETED", 1, deleted_tasks=(4,)))
    assert [each.task_id for each in store.waiting_drafts(1, "v1")] == [3, 5]
    assert store.waiting_drafts(2, "v1") == []


def test_how_far_waiting_drafts_follow_is_kept(store: Store) -> None:
    assert store.reused_seq(1) == 0
    store.save_reused_seq(1, 7)
    assert (store.reused_seq(1), store.reused_seq(2)) == (7, 0)
