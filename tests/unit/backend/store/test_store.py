from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import StatementError

from backend.domain.corrections import Correction, DraftFailure, Event
from backend.store.recording import RECONCILED, Changes
from backend.store.store import Store
from tests.factories import LONG_AGO, correction, draft, saved, task


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/data/captioner.db")
    store.migrate()
    return store


def texts(store: Store, **filters: int | bool) -> dict[int, tuple[str, ...]]:
    return {row.annotation_id: row.texts for row in store.corrections(1, **filters)}


def test_an_event_is_there_after_another_process_opens_the_database(store: Store) -> None:
    receipt = store.record(saved(correction(1, "a red dot", lead_time_seconds=4.5, annotator=7, origin="manual")))
    again = Store(str(store.url))
    [row] = again.corrections(1)
    assert (row.texts, row.lead_time_seconds, row.annotator, row.origin) == (("a red dot",), 4.5, 7, "manual")
    assert (row.updated_at, row.image, row.seq) == (LONG_AGO, "/data/upload/1/1.jpg", receipt.seq)
    assert receipt.new_corrections == 1


@pytest.mark.parametrize("second", [0, -1])
def test_a_repeated_or_late_revision_changes_nothing(store: Store, second: float) -> None:
    first = store.record(saved(correction(1, "the newest")))
    receipt = store.record(saved(correction(1, "another", second)))
    assert receipt.new_corrections == 0
    assert receipt.seq > first.seq
    assert [(row.texts, row.seq) for row in store.corrections(1)] == [(("the newest",), first.seq)]


def test_time_zones_do_not_decide_what_is_newer(store: Store) -> None:
    store.record(saved(correction(1, "first", updated_at=datetime(2026, 1, 1, 12, tzinfo=UTC))))
    eastern = timezone(timedelta(hours=5))
    store.record(saved(correction(1, "an hour earlier", updated_at=datetime(2026, 1, 1, 16, tzinfo=eastern))))
    assert texts(store) == {1: ("first",)}


def test_of_two_revisions_in_one_event_the_newest_counts(store: Store) -> None:
    receipt = store.record(saved(correction(1, "new", 2), correction(1, "old", 1)))
    assert (texts(store), receipt.new_corrections) == ({1: ("new",)}, 1)


@pytest.mark.parametrize("known", [True, False])
def test_no_late_update_undoes_a_deletion(store: Store, known: bool) -> None:
    if known:
        store.record(saved(correction(1)))
    store.record(saved(action="ANNOTATIONS_DELETED", deleted_annotations=(1,)))
    assert store.record(saved(correction(1, "back again", 9), action="ANNOTATION_UPDATED")).new_corrections == 0
    assert store.corrections(1, usable=False) == []


@pytest.mark.parametrize("known", [True, False])
def test_an_id_given_out_again_after_a_deletion_is_another_annotation(store: Store, known: bool) -> None:
    if known:
        store.record(saved(correction(1, created_at=LONG_AGO)))
    store.record(saved(action="ANNOTATIONS_DELETED", deleted_annotations=(1,)))
    anew = datetime.now(UTC) + timedelta(seconds=1)
    store.record(saved(correction(1, "late", 9, created_at=LONG_AGO)))
    assert texts(store) == {}
    assert store.record(saved(correction(1, "of another", 1, created_at=anew))).new_corrections == 1
    assert texts(store) == {1: ("of another",)}


def test_a_deleted_task_takes_its_annotations_with_it_and_later_ones_too(store: Store) -> None:
    store.record(saved(correction(1), correction(2, task_id=1), correction(3)))
    store.record(saved(action="TASKS_DELETED", deleted_tasks=(1,)))
    store.record(saved(correction(2, "late", 5, task_id=1), correction(4, task_id=1)))
    assert list(texts(store, usable=False)) == [3]
    assert store.get_task(1, 1) is None
    assert store.get_task(1, 3) == task(3, image="/data/upload/1/3.jpg")


def test_deleting_twice_is_deleting_once(store: Store) -> None:
    store.record(saved(correction(1)))
    for _ in range(2):
        assert store.record(saved(deleted_annotations=(1,))).new_corrections == 0
    assert store.corrections(1) == []


def test_skipping_and_unskipping(store: Store) -> None:
    store.record(saved(correction(1)))
    store.record(saved(correction(1, "", 1, was_cancelled=True)))
    assert (texts(store), texts(store, usable=False)) == ({}, {1: ()})
    assert store.record(saved(correction(1, "after all", 2))).new_corrections == 1
    assert texts(store) == {1: ("after all",)}


def test_saving_again_without_a_change_is_nothing_new(store: Store) -> None:
    first = store.record(saved(correction(1)))
    again = store.record(saved(correction(1, second=5, ground_truth=True), action="ANNOTATION_UPDATED"))
    [row] = store.corrections(1)
    assert (again.new_corrections, row.seq, row.ground_truth) == (0, first.seq, True)
    assert row.updated_at == LONG_AGO + timedelta(seconds=5)


def test_a_hint_is_kept_with_the_revision_that_it_was_typed_for(store: Store) -> None:
    store.record(saved(correction(hints=("red bus",))))
    receipt = store.record(saved(correction(second=5, hints=("Two children",))))
    assert receipt.new_corrections == 0
    assert [each.hints for each in store.corrections(1)] == [("Two children",)]
    assert [each.hints for each in store.revisions(1)] == [("red bus",), ("Two children",)]
    store.record(saved(action="ANNOTATIONS_DELETED", deleted_annotations=(1, 2)))
    assert store.corrections(1) == []


def test_a_reason_given_later_is_kept_and_is_nothing_new_to_learn(store: Store) -> None:
    store.record(saved(correction(reasons=("object",))))
    receipt = store.record(saved(correction(second=5, reasons=("object", "count"))))
    assert receipt.new_corrections == 0
    assert [each.reasons for each in store.corrections(1)] == [("object", "count")]
    assert [each.reasons for each in store.revisions(1)] == [("object",), ("object", "count")]


def test_corrections_as_of_an_event(store: Store) -> None:
    first = store.record(saved(correction(1, "one"), correction(2, "two"))).seq
    second = store.record(saved(correction(1, "one, better", 1))).seq
    third = store.record(saved(deleted_annotations=(2,))).seq
    assert texts(store, up_to_seq=first - 1) == {}
    assert texts(store, up_to_seq=first) == {1: ("one",), 2: ("two",)}
    assert texts(store, up_to_seq=second) == {1: ("one, better",), 2: ("two",)}
    assert texts(store, up_to_seq=third) == {1: ("one, better",)} == texts(store)


def test_nothing_of_an_event_stays_when_part_of_it_fails(store: Store) -> None:
    unstorable = replace(correction(2), ground_truth="maybe")  # type: ignore[arg-type]
    with pytest.raises(StatementError):
        store.record(saved(correction(1), unstorable))
    assert store.get_task(1, 1) is None
    assert store.corrections(1) == []
    assert store.record(saved(correction(3))).new_corrections == 1


def test_projects_are_kept_apart(store: Store) -> None:
    store.record(saved(correction(1), correction(2)))
    store.record(saved(correction(3, project_id=2)))
    assert [row.annotation_id for row in store.corrections(2)] == [3]
    assert [project.id for project in store.projects()] == [1, 2]


def test_a_correction_keeps_the_last_draft_served_before_it(store: Store) -> None:
    store.add_drafts(1, [draft(1, "v1", "a dot"), draft(2, "v1", "of another task")])
    store.add_drafts(1, [draft(1, "v2", "a blue dot")])
    store.record(saved(correction(1, "a red dot")))
    store.add_drafts(1, [draft(1, "v3", "served later")])
    store.record(saved(correction(1, "a big red dot", 1)))
    [row] = store.corrections(1)
    assert (row.draft_version, row.draft_text, row.texts) == ("v2", "a blue dot", ("a big red dot",))


def test_a_correction_is_one_of_the_draft_that_label_studio_says_was_shown(store: Store) -> None:
    """In stored mode the drafts of a new version are made before they are shown."""
    store.add_drafts(1, [draft(id_, version, f"by {version}") for version in ("v1", "v2") for id_ in (1, 2)])
    store.record(saved(correction(1), correction(2), shown={1: "v1", 2: "unknown"}))
    assert [(each.draft_version, each.draft_text) for each in store.corrections(1)] == [
        ("v1", "by v1"),
        ("v2", "by v2"),
    ]


@pytest.mark.parametrize(("lead_time_seconds", "version"), [(None, "v2"), (30.0, "v1"), (1e9, "v1"), (0.0, "v2")])
def test_a_draft_made_anew_while_the_task_was_open_has_not_been_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch, lead_time_seconds: float | None, version: str
) -> None:
    for seconds_ago, name in ((600, "v1"), (10, "v2")):
        moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        monkeypatch.setattr("backend.store.store.now", lambda moment=moment: moment)
        store.add_drafts(1, [draft(1, name, "a dot")])
    store.record(saved(correction(1, "a red dot", lead_time_seconds=lead_time_seconds)))
    [row] = store.corrections(1)
    assert row.draft_version == version


def test_a_correction_older_than_our_drafts_started_from_none(store: Store) -> None:
    store.add_drafts(1, [draft(1)])
    store.record(saved(correction(1), action=RECONCILED))
    store.record(saved(correction(2, updated_at=datetime.now(UTC) + timedelta(hours=1)), action=RECONCILED))
    assert [row.draft_text for row in store.corrections(1)] == [None, None]
    store.add_drafts(1, [draft(3)])
    store.record(saved(correction(3, updated_at=datetime.now(UTC) + timedelta(hours=1)), action=RECONCILED))
    assert [row.draft_text for row in store.corrections(1)] == [None, None, "a dot"]


def test_the_image_of_a_task_may_become_known_after_its_correction(store: Store) -> None:
    store.record(Event("ANNOTATION_CREATED", 1, corrections=(correction(5),)))
    assert store.corrections(1)[0].image is None
    store.record(Event("TASKS_CREATED", 1, tasks=(task(5, image="/late.jpg"),)))
    assert store.corrections(1)[0].image == "/late.jpg"


def test_thousands_of_annotations_in_one_event(store: Store) -> None:
    receipt = store.record(saved(*(correction(id) for id in range(1, 3001)), action="ANNOTATIONS_CREATED"))
    assert (receipt.new_corrections, len(store.corrections(1))) == (3000, 3000)
    assert store.record(saved(deleted_tasks=tuple(range(1, 2001)))).new_corrections == 0
    assert len(store.corrections(1)) == 1000


def test_drafts_are_found_by_version_and_the_first_of_a_kind_stays(store: Store) -> None:
    store.add_drafts(1, [draft(1, text="first"), draft(1, text="second"), draft(2)])
    store.add_drafts(1, [draft(1, text="third"), draft(1, "v2"), draft(1, image="/other.jpg", text="of a new image")])
    assert store.get_drafts(1, [1, 2, 3], "v1") == [
        draft(1, text="first"),
        draft(2),
        draft(1, image="/other.jpg", text="of a new image"),
    ]
    assert store.get_drafts(1, list(range(5000)), "v2") == [draft(1, "v2")]
    assert store.get_drafts(2, [1], "v1") == []


def test_a_failure_is_kept_until_the_task_gets_a_draft(store: Store) -> None:
    for reason in ("first reason", "it cannot be read"):
        store.add_failures(1, [DraftFailure(1, 1, reason)])
    store.add_failures(1, [DraftFailure(1, 2, "too big")])
    assert store.failures(1) == [DraftFailure(1, 2, "too big"), DraftFailure(1, 1, "it cannot be read")]
    assert store.failures(1, limit=1) == [DraftFailure(1, 2, "too big")]
    store.add_drafts(1, [draft(1)])
    assert store.failures(1) == [DraftFailure(1, 2, "too big")]


def test_many_failures_are_one_transaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    writing = store.writing
    monkeypatch.setattr(
        store, "writing", lambda project_id, **how: begun.append(project_id) or writing(project_id, **how)
    )
    store.add_failures(1, [DraftFailure(1, number % 1000, f"reason {number}") for number in range(2000)])
    assert begun == [1]
    assert store.counts(1).failures == 1000
    assert {failure.reason for failure in store.failures(1, limit=1000)} == {f"reason {n}" for n in range(1000, 2000)}
    store.add_failures(1, [])
    assert begun == [1]


def test_ids_have_64_bits(store: Store) -> None:
    """Label Studio's are that wide; PostgreSQL's INTEGER is not."""
    great = 2**63 - 1
    mine = {"project_id": great, "task_id": great, "annotator": great, "parent_prediction": great}
    store.record(saved(correction(great, **mine)))
    store.add_drafts(great, [draft(great, project_id=great)])
    store.add_failures(great, [DraftFailure(great, great, "too big")])
    (found,) = store.corrections(great)
    assert {name: getattr(found, name) for name in mine} == mine
    assert found.annotation_id == great
    assert store.counts(great).failures == 1
    assert store.request_retrain(great, asked=True, every=1) is not None


def test_what_setup_said_is_remembered(store: Store) -> None:
    assert store.get_project(1) is None
    store.save_project(1, "<View/>", "http://studio:8080", "secret")
    first = store.get_project(1)
    store.save_project(1, "<View/>", "http://studio:8080", "secret")
    assert store.get_project(1) == first
    store.save_project(1, "<View></View>")
    project = store.get_project(1)
    assert project is not None
    assert (project.label_config, project.hostname, project.access_token) == ("<View></View>", None, None)


def test_asking_for_training_is_remembered_with_the_event(store: Store) -> None:
    store.record(Event("START_TRAINING", 1))
    project = store.get_project(1)
    assert project is not None
    assert project.training_asked


def test_counts(store: Store) -> None:
    store.add_drafts(1, [draft(1, text="kept as it was"), draft(2)])
    store.add_failures(1, [DraftFailure(1, 9, "too big")])
    store.record(saved(correction(1, "kept as it was"), correction(2, "changed"), correction(3, "from nothing")))
    store.record(saved(correction(4, "", was_cancelled=True), deleted_annotations=(3,)))
    counts = store.counts(1)
    assert (counts.tasks, counts.drafts, counts.failures) == (4, 2, 1)
    assert (counts.corrections, counts.skipped, counts.new) == (2, 1, 2)


def read(store: Store, *corrections: Correction, seconds_ago: float = -1, **fields: Any) -> Changes:
    """What changed by Label Studio having been read (by default: after all that is recorded), tasks 1 and 2 in full."""
    observed_at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    tasks = tuple(replace(task(id_, image=f"/data/upload/1/{id_}.jpg"), seen="as read") for id_ in (1, 2))
    given: dict[str, Any] = {"tasks": tasks, "whole_tasks": (1, 2), "observed_at": observed_at, **fields}
    return store.record(Event(RECONCILED, 1, corrections=corrections, **given)).changes


def test_what_is_read_after_all_that_was_told_is_how_it_is(store: Store) -> None:
    store.record(saved(correction(1, "old"), correction(2, "gone meanwhile")))
    changes = read(store, correction(1, "changed under the same time"), correction(3, "lost", task_id=2))
    assert (changes.updated, changes.created, changes.deleted) == ((1,), (3,), (2,))
    assert texts(store) == {1: ("changed under the same time",), 3: ("lost",)}
    assert read(store, correction(1, "changed under the same time"), correction(3, "lost", task_id=2)) == Changes()


def test_what_was_told_after_label_studio_was_asked_stands(store: Store) -> None:
    store.record(saved(correction(1, "new"), correction(2, "saved meanwhile")))
    store.record(saved(correction(1, "newer", 2), deleted_annotations=(5,)))
    changes = read(store, correction(1, "old", 1), correction(5, "deleted meanwhile", task_id=1), seconds_ago=60)
    assert changes == Changes()
    assert texts(store) == {1: ("newer",), 2: ("saved meanwhile",)}
    assert store.fingerprints(1) == {1: None, 2: None}, "what was read is not all that is known"
    assert not read(store, tasks=(), whole_tasks=(), deleted_tasks=(1,), seconds_ago=60)
    assert store.get_task(1, 1) is not None


def test_what_label_studio_has_is_not_dead(store: Store) -> None:
    """Its "Remove duplicates" moves annotations to another task, and tells of the deleted ones only."""
    store.record(saved(correction(1, "a red dot"), correction(2)))
    store.record(Event("TASKS_DELETED", 1, deleted_tasks=(1,)))
    assert texts(store).keys() == {2}
    assert read(store, correction(1, "a red dot", task_id=2), correction(2), whole_tasks=(2,)).created == (1,)
    assert [(row.annotation_id, row.task_id) for row in store.corrections(1)] == [(1, 2), (2, 2)]


def test_an_event_about_a_task_means_that_it_is_to_be_read_again(store: Store) -> None:
    read(store, correction(1))
    assert store.fingerprints(1) == {1: "as read", 2: "as read"}
    store.record(Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(1,)))
    assert store.fingerprints(1) == {1: None, 2: "as read"}
    assert not read(store), "nothing else has changed"
    assert store.fingerprints(1) == {1: "as read", 2: "as read"}
    store.record(Event("ANNOTATION_CREATED", 1, corrections=(correction(7, task_id=9),)))
    assert store.fingerprints(1) == {1: "as read", 2: "as read", 9: None}


def test_reading_what_is_known_leaves_no_event(store: Store) -> None:
    first = store.record(saved(correction(1), correction(2)))
    read(store, correction(1), correction(2))
    assert store.record(saved(correction(1))).seq == first.seq + 1


def test_a_prediction_that_label_studio_forgot_is_no_change(store: Store) -> None:
    store.record(saved(correction(1, parent_prediction=8), correction(2)))
    assert not read(store, correction(1), correction(2))
    assert store.corrections(1)[0].parent_prediction == 8


def test_corrections_of_a_deleted_task_are_there_for_who_asks(store: Store) -> None:
    store.record(saved(correction(1, "kept"), correction(2, "", was_cancelled=True), correction(3, "deleted itself")))
    seq = store.record(saved(correction(4, "lives"), deleted_annotations=(3,))).seq
    store.record(Event("TASKS_DELETED", 1, deleted_tasks=(1, 2, 3)))
    assert texts(store) == {4: ("lives",)}
    assert texts(store, of_deleted_tasks=True) == {1: ("kept",), 4: ("lives",)}
    assert texts(store, of_deleted_tasks=True, usable=False).keys() == {1, 2, 4}
    assert texts(store, up_to_seq=seq) == {1: ("kept",), 4: ("lives",)}


def test_the_hash_of_the_image_comes_from_its_draft_or_later(store: Store) -> None:
    store.add_drafts(1, [draft(1, image_sha256="ab" * 32)])
    store.record(saved(correction(1), correction(2)))
    assert [row.image_sha256 for row in store.corrections(1)] == ["ab" * 32, None]
    store.add_image_hashes(1, {"/data/upload/1/1.jpg": "ef" * 32, "/data/upload/1/2.jpg": "cd" * 32})
    assert [row.image_sha256 for row in store.corrections(1)] == ["ab" * 32, "cd" * 32]
    store.record(saved(correction(2, "changed", 1)))
    assert [row.image_sha256 for row in store.corrections(1)] == ["ab" * 32, "cd" * 32]


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"origin": "prediction"}, True),
        ({"origin": "prediction-changed"}, False),
        ({"origin": "manual", "text": "a dot"}, False),  # somebody typed the very words
        ({"parent_prediction": 3}, True),  # made of predictions in bulk
        ({"text": "a dot"}, True),
        ({}, False),
    ],
)
def test_the_models_own_words_weigh_less(store: Store, fields: dict[str, Any], accepted: bool) -> None:
    store.add_drafts(1, [draft(1, text="a dot")])
    store.record(saved(correction(1, **fields)))
    [row] = store.corrections(1)
    assert (row.accepted, row.weight(0.25)) == (accepted, 0.25 if accepted else 1.0)


def test_many_threads_and_processes_write_at_once(store: Store) -> None:
    others = [store, Store(str(store.url)), Store(str(store.url))]
    start = threading.Barrier(12)

    def write(number: int) -> int:
        start.wait()
        other = others[number % len(others)]
        other.add_drafts(1, [draft(number), draft(1, "shared")])
        # the same annotation once more, as Label Studio sends it when it runs a request twice
        return other.record(saved(correction(number), correction(1, "shared"))).new_corrections

    with ThreadPoolExecutor(12) as pool:
        new = list(pool.map(write, range(2, 14)))
    assert sum(new) == 13
    assert len(store.corrections(1)) == 13
    assert len(store.get_drafts(1, range(20), "v1")) == 12
    assert len(store.get_drafts(1, [1], "shared")) == 1
