from __future__ import annotations

from datetime import timedelta

import pytest

from backend.domain.corrections import Event
from backend.domain.selections import name_of, number_of, version_of
from backend.store.database import now
from backend.store.drafts.refreshes import OPEN_SECONDS
from backend.store.drafts.selections import CHOSEN, ENDED, GONE, WANTED, Chosen, Order, Progress
from backend.store.store import Store
from tests.factories import correction, saved
from tests.unit.backend.store.test_store import store  # noqa: F401 - a fixture

ORDER = Order("margin", 4, seed=3)


def test_a_selection_goes_from_an_order_to_nothing_that_is_left(store: Store) -> None:  # noqa: F811
    ordered = store.order_selection(1, ORDER)
    assert store.order_selection(2, ORDER).number == ordered.number == 1
    made = store.save_choice(
        ordered, "v1", "Sequential sampling", [Chosen(8, False), Chosen(3, True), Chosen(5, False)]
    )
    assert made
    assert store.save_choice(ordered, "v1", None, []) is None, "it is chosen"
    assert store.ranks(made) == [(8, 1), (3, 2), (5, 3)]
    store.mark_stored(made, [8], [3])
    assert store.ranks(made, unstored=True) == [(5, 3)]
    assert store.selection_named(1, "v1.select-1") == made == store.selections(1, CHOSEN)[0]
    assert store.selection_named(1, "v1") is store.selection_named(1, "v2.select-1") is None
    assert store.show_selection(made)
    assert not store.show_selection(made)
    store.end_selection(made, "for a test")
    [ended] = store.selections(1, ENDED)
    assert (ended.reason, ended.due_at > now() + timedelta(minutes=9)) == ("for a test", True)
    store.forget_selection(ended, again=True)
    assert store.selections(1)[0].state == ENDED
    store.forget_selection(ended, again=False)
    assert store.selections(1)[0].state == GONE
    assert store.selections(2)[0].state == WANTED


def test_what_was_given_up_is_not_shown(store: Store) -> None:  # noqa: F811
    first = store.save_choice(store.order_selection(1, ORDER), "v1", None, [Chosen(1, False)])
    assert first
    store.order_selection(1, ORDER)
    assert not store.show_selection(first)
    assert [each.state for each in store.selections(1)] == [ENDED, WANTED]
    store.undo_selections(1)
    assert [each.state for each in store.selections(1)] == [ENDED, GONE]


def test_who_labels_and_how_much_waits(store: Store) -> None:  # noqa: F811
    made = store.save_choice(
        store.order_selection(1, ORDER), "v1", None, [Chosen(id_, id_ == 2) for id_ in (1, 2, 3, 4, 5)]
    )
    assert made
    assert store.selection_progress(made) == Progress(tasks=5, controls=1, stored=0, waiting=5, annotators=0)
    store.record(saved(correction(1, annotator=7), correction(2, "", annotator=7, was_cancelled=True)))
    store.record(saved(correction(9, annotator=6)))
    store.record(saved(correction(3, annotator=8), correction(13, task_id=3, annotator=7)))
    store.record(Event("TASKS_DELETED", 1, deleted_tasks=(5,)))
    progress = store.selection_progress(made)
    assert progress[:-1] == (5, 1, 0, 1, 2)
    assert progress.labelled_at
    assert now() - timedelta(minutes=1) < progress.labelled_at <= now()


def test_a_shortlist_is_not_yet_a_choice(store: Store) -> None:  # noqa: F811
    ordered = store.order_selection(1, ORDER)
    assert store.shortlist(ordered) == {}
    store.save_shortlist(ordered, [1, 2, 3])
    store.save_disagreements(ordered, {1: 0.25, 3: 0.0})
    assert store.shortlist(ordered) == {1: 0.25, 2: None, 3: 0.0}
    assert store.ranks(ordered) == []
    assert store.selection_progress(ordered).tasks == 0


def test_what_failed_waits_a_minute(store: Store) -> None:  # noqa: F811
    store.order_selection(1, ORDER)
    assert store.selection_is_due(1)
    store.postpone_selection(1)
    assert not store.selection_is_due(1)


def test_what_cannot_be_deleted_waits_a_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    made = store.save_choice(store.order_selection(1, ORDER), "v1", None, [Chosen(1, False)])
    assert made
    store.end_selection(made)
    store.postpone_selection(1)
    [ended] = store.selections(1)
    assert ended.due_at - now() > timedelta(seconds=OPEN_SECONDS - 60), "what is due later is not due sooner"
    monkeypatch.setattr("backend.store.drafts.selections.now", lambda: ended.due_at)
    assert store.selection_is_due(1)
    store.postpone_selection(1)
    assert not store.selection_is_due(1)


@pytest.mark.parametrize("name", ["p1-v2", "v1.select-", "v1.select-x", ".select-1", "v1.select-1234567890", ""])
def test_other_names_are_those_of_versions(name: str) -> None:
    assert (version_of(name), number_of(name)) == (name, None)
    selection = name_of(f"my{name}", 12)
    assert (version_of(selection), number_of(selection)) == (f"my{name}", 12)
