from __future__ import annotations

from pathlib import Path

import pytest

from backend.reports.edits import LAST, by_version, taught
from backend.store.store import Store
from tests.factories import correction, draft, saved


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


def correct(store: Store, task: int, version: str, text: str, *captions: str) -> None:
    store.add_drafts(1, [draft(task, version, text)])
    store.record(saved(correction(task, texts=captions, typed=captions)))


def test_what_annotators_kept_and_changed_of_each_version(store: Store) -> None:
    correct(store, 1, "v1", "a dog", "a dog")
    correct(store, 2, "v1", "a dog runs", "two brown dogs run in snow")
    correct(store, 3, "v2", "a dog in snow", "a dog in deep snow", "dogs")
    correct(store, 4, "v2", "", "a blind task has no draft")
    correct(store, 5, "v2", "skipped ones do not count")
    store.record(saved(correction(6, "from nothing")))
    first, second = by_version(store.draft_changes(1))
    assert first == {"version": "v1", "corrections": 2, "kept": 1, "kept_share": 0.5, "edits": 6 / 8}
    assert second == {"version": "v2", "corrections": 1, "kept": 0, "kept_share": 0.0, "edits": 1 / 5}


def test_a_draft_without_a_right_word_is_as_good_as_none(store: Store) -> None:
    store.record(saved(correction(1, "two brown dogs")))
    assert by_version(store.draft_changes(1)) == []
    correct(store, 2, "v1", "cat", "two brown dogs")
    [found] = by_version(store.draft_changes(1))
    assert found["edits"] == 1.0


def test_the_words_that_only_the_champion_uses_and_corrections_brought(store: Store) -> None:
    correct(store, 1, "v1", "a dog on a wall", "a dog on a sled in snow")
    correct(store, 2, "v1", "a man on snowshoes", "a man on skis in snow")
    learnt = store.corrected_drafts(1)[-1].seq
    correct(store, 3, "v1", "a cat", "a cat in mittens")
    store.add_drafts(1, [draft(4, "v2", "a dog in snow"), draft(5, "v2", "a man in snow on a sled with mittens")])
    store.add_drafts(1, [draft(6, "v1", "made later: a sled")])
    store.add_drafts(1, [draft(7, "v2", "skis", from_task=2)])  # a copied correction
    found = taught(store, 1, "v2", learnt)
    assert found == {"version": "v2", "corrections": 2, "words": ["in", "snow", "sled"]}
    store.add_drafts(1, [draft(8, "v3", "skis")])
    assert taught(store, 1, "v3", learnt)["words"] == ["skis"]


def test_only_the_last_corrections_are_told_of(store: Store) -> None:
    for number in range(LAST + 1):
        correct(store, number + 1, "v1", "a dog", f"a dog beside word{number}")
    store.add_drafts(1, [draft(100, "v2", "word0 and word1 beside")])
    found = taught(store, 1, "v2", store.corrected_drafts(1)[-1].seq)
    assert (found["corrections"], sorted(found["words"])) == (LAST, ["beside", "word1"])
