from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backend.domain.corrections import Event
from backend.store.database import now
from backend.store.retrains import (
    CANCELLED,
    DONE,
    FAILED,
    MAX_DEATHS,
    MAX_POSTPONED,
    POSTPONED_SECONDS,
    QUEUED,
    REGISTER,
    RUNNING,
    Retrain,
)
from backend.store.store import Store
from backend.store.tables import retrains
from tests.factories import correction, saved


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


def correct(store: Store, *ids: int) -> int:
    return store.record(saved(*(correction(id) for id in ids))).seq


def finish(store: Store, retrain: Retrain, state: str = DONE) -> None:
    claimed = store.claim_retrain(retrain.id)
    assert claimed is not None
    assert store.freeze_retrain(claimed)
    assert store.finish_retrain(claimed, state=state, outcome="It is over.")


def requested(store: Store, asked: bool = False, every: int = 3) -> Retrain:
    retrain = store.request_retrain(1, asked, every)
    assert retrain is not None
    return retrain


def claimed(store: Store, retrain: Retrain, stale_after_seconds: float = 30) -> Retrain:
    found = store.claim_retrain(retrain.id, stale_after_seconds)
    assert found is not None
    return found


def test_a_retrain_begins_after_n_new_corrections(store: Store) -> None:
    correct(store, 1, 2)
    assert store.request_retrain(1, asked=False, every=3) is None
    seq = correct(store, 3)
    retrain = requested(store)
    assert (retrain.snapshot, retrain.cutoff_seq, retrain.state, retrain.attempt) == (f"1-{seq}", seq, QUEUED, 0)
    finish(store, retrain)
    assert store.request_retrain(1, asked=False, every=3) is None
    correct(store, 4, 5, 6)
    assert requested(store).id > retrain.id


def run_for(store: Store, ran: timedelta, waited: timedelta = timedelta(), ids: tuple[int, ...] = ()) -> Retrain:
    """Correct these tasks; the retrain that makes due runs for so long, in two attempts with a wait between them."""
    correct(store, *ids)
    retrain = claimed(store, requested(store, every=50))
    with store.writing(1) as connection:
        before = {"started_at": now() - waited - ran, "heartbeat_at": now() - waited, "state": QUEUED}
        connection.execute(retrains.update().where(retrains.c.id == retrain.id).values(**before))
    finish(store, retrain)
    found = store.get_retrain(retrain.id)
    assert found is not None
    return found


def test_the_first_retrain_begins_after_25_corrections_and_later_ones_after_a_quarter_more(store: Store) -> None:
    begins = []
    for count in range(1, 300):
        correct(store, count)
        left = store.corrections_until_retrain(1, every=50)
        retrain = store.request_retrain(1, asked=False, every=50)
        assert (retrain is not None) == (left == 0), "what is told is what happens"
        if retrain:
            begins.append(count)
            finish(store, retrain)
    assert begins == [25, 50, 75, 100, 125, 157, 197, 247, 297]


@pytest.mark.parametrize(("seconds", "needed"), [(119.0, 25), (121.0, 50)])
def test_after_a_long_retrain_the_most_is_waited_for(store: Store, seconds: float, needed: int) -> None:
    hour = timedelta(hours=1)
    retrain = run_for(store, timedelta(seconds=seconds), waited=hour, ids=tuple(range(1, 51)))
    assert retrain.seconds == pytest.approx(seconds, abs=0.9), "without the hour in the queue"
    assert store.corrections_until_retrain(1, every=50) == needed
    assert store.corrections_until_retrain(1, every=10) == 10
    correct(store, *range(51, 50 + needed))
    assert store.request_retrain(1, asked=False, every=50) is None
    correct(store, 50 + needed)
    assert requested(store, every=50).state == QUEUED


def test_one_that_never_began_says_nothing_about_the_time_that_retrains_take(store: Store) -> None:
    run_for(store, timedelta(minutes=5), ids=tuple(range(1, 51)))
    correct(store, 51)
    requested(store, asked=True)
    assert store.cancel_retrain(1)
    assert store.corrections_until_retrain(1, every=50) == 50


def test_with_0_only_a_request_begins_one(store: Store) -> None:
    correct(store, *range(1, 200))
    assert store.request_retrain(1, asked=False, every=0) is None
    assert requested(store, asked=True, every=0).state == QUEUED


def test_skipped_and_deleted_corrections_do_not_count(store: Store) -> None:
    store.record(saved(correction(1), correction(2), correction(3, "", was_cancelled=True)))
    assert store.request_retrain(1, asked=False, every=3) is None
    store.record(saved(correction(4), deleted_annotations=(1,)))
    assert store.request_retrain(1, asked=False, every=3) is None


def test_asking_needs_one_correction_and_waits_for_it(store: Store) -> None:
    assert store.request_retrain(1, asked=True, every=3) is None
    correct(store, 1)
    retrain = requested(store)
    finish(store, retrain)
    correct(store, 2)
    assert store.request_retrain(1, asked=False, every=3) is None, "having been asked once starts one retrain"


def test_asking_through_an_event_is_remembered_without_a_request(store: Store) -> None:
    correct(store, 1)
    store.record(Event("START_TRAINING", 1))
    assert requested(store).state == QUEUED


def test_triggers_coalesce_while_one_is_active(store: Store) -> None:
    correct(store, 1, 2, 3)
    first = requested(store)
    correct(store, 4, 5, 6)
    assert requested(store).id == first.id
    assert requested(store, asked=True).id == first.id
    assert len(store.retrains(1)) == 1


def test_requests_at_the_same_moment_make_one_retrain(store: Store) -> None:
    correct(store, 1, 2, 3)
    with ThreadPoolExecutor(8) as pool:
        assert len({retrain.id for retrain in pool.map(lambda _: requested(store), range(8))}) == 1


def test_corrections_until_the_freeze_belong_to_the_retrain_and_later_ones_to_the_next(store: Store) -> None:
    correct(store, 1, 2, 3)
    retrain = claimed(store, requested(store))
    seq = correct(store, 4)
    frozen = store.freeze_retrain(retrain)
    assert frozen is not None
    assert (frozen.cutoff_seq, frozen.snapshot) == (seq, f"1-{seq}")
    correct(store, 5, 6, 7)
    assert [row.annotation_id for row in store.corrections(1, up_to_seq=frozen.cutoff_seq)] == [1, 2, 3, 4]
    assert store.finish_retrain(retrain, state=DONE, outcome="It is over.")
    assert store.counts(1).new == 3
    assert requested(store).id > retrain.id


@pytest.mark.parametrize(("before", "again"), [(True, False), (False, True)])
def test_asking_while_one_runs_is_honoured_after_it(store: Store, before: bool, again: bool) -> None:
    correct(store, 1)
    retrain = claimed(store, requested(store, asked=True))
    if before:  # the freeze takes in all there is: asking before it is asking for this one
        requested(store, asked=True)
    store.freeze_retrain(retrain)
    if not before:
        requested(store, asked=True)
    correct(store, 2)
    store.finish_retrain(retrain, state=DONE, outcome="It is over.")
    assert (store.request_retrain(1, asked=False, every=3) is not None) == again


def test_after_a_failure_it_does_not_try_again_by_itself_at_once(store: Store) -> None:
    correct(store, 1, 2, 3)
    retrain = requested(store)
    finish(store, retrain, FAILED)
    correct(store, 4)
    assert store.request_retrain(1, asked=False, every=3) is None
    assert store.counts(1).new == 4, "they have not been learnt from"
    assert store.corrections_until_retrain(1, every=3) == 2
    assert requested(store, asked=True).id > retrain.id


def test_after_a_failure_newer_corrections_start_one(store: Store) -> None:
    correct(store, 1, 2, 3)
    finish(store, requested(store), FAILED)
    correct(store, 4, 5, 6)
    assert requested(store).state == QUEUED


@pytest.mark.parametrize("begun", [False, True])
def test_a_cancelled_retrain_is_over_and_its_process_may_no_longer_write(store: Store, begun: bool) -> None:
    correct(store, 1, 2, 3)
    retrain = requested(store)
    if begun:
        retrain = claimed(store, retrain)
    cancelled = store.cancel_retrain(1)
    assert cancelled is not None
    assert (cancelled.id, cancelled.state, cancelled.outcome) == (retrain.id, CANCELLED, "It was cancelled.")
    assert cancelled.ended_at is not None
    assert not store.renew_retrain(retrain, {"phase": "train"})
    assert store.freeze_retrain(retrain) is None
    assert not store.release_retrain(retrain)
    assert not store.finish_retrain(retrain, state=DONE, outcome="It is over.")
    assert store.claim_retrain(retrain.id, stale_after_seconds=0) is None
    assert store.retrains(1) == [cancelled]
    assert store.cancel_retrain(1) is None, "once"


def test_a_cancelled_retrain_does_not_begin_again_by_itself_at_once(store: Store) -> None:
    correct(store, 1, 2, 3)
    retrain = claimed(store, requested(store))
    store.freeze_retrain(retrain)
    correct(store, 4, 5, 6)  # as many as make one due, but all of before
    requested(store, asked=True)
    assert store.cancel_retrain(1)
    assert store.request_retrain(1, asked=False, every=3) is None
    assert store.counts(1).new == 6, "nothing has been learnt"
    correct(store, 7, 8)
    assert store.request_retrain(1, asked=False, every=3) is None
    correct(store, 9)
    again = requested(store)
    assert again.id > retrain.id
    finish(store, again)
    assert store.counts(1).new == 0


def test_asking_begins_the_next_after_a_cancelled_one(store: Store) -> None:
    correct(store, 1, 2, 3)
    retrain = requested(store)
    assert store.cancel_retrain(1)
    again = requested(store, asked=True)
    assert (again.id > retrain.id, again.state) == (True, QUEUED)
    assert len(store.corrections(1, up_to_seq=again.cutoff_seq)) == 3


def test_it_is_too_late_to_cancel_what_is_being_registered(store: Store) -> None:
    correct(store, 1, 2, 3)
    retrain = claimed(store, requested(store))
    assert store.renew_retrain(retrain, {"phase": REGISTER})
    assert store.cancel_retrain(1) is None
    assert store.release_retrain(retrain)
    assert store.cancel_retrain(1) is not None, "its process has stopped before it was through"


def test_there_is_nothing_to_cancel_where_nothing_is_known(store: Store) -> None:
    assert store.cancel_retrain(7) is None
    assert store.projects() == [], "asking makes no project"


def test_one_process_at_a_time(store: Store) -> None:
    correct(store, 1, 2, 3)
    retrain = requested(store)
    with ThreadPoolExecutor(6) as pool:
        won = [found for found in pool.map(lambda _: store.claim_retrain(retrain.id), range(6)) if found]
    assert [(found.attempt, found.state) for found in won] == [(1, RUNNING)]


def test_a_dead_process_is_superseded_and_may_no_longer_write(store: Store) -> None:
    correct(store, 1, 2, 3)
    dead = claimed(store, requested(store))
    frozen = store.freeze_retrain(dead)
    assert frozen is not None
    assert store.stale_retrains(older_than_seconds=30) == []
    assert [retrain.id for retrain in store.stale_retrains(older_than_seconds=0)] == [dead.id]
    correct(store, 4)
    living = claimed(store, dead, stale_after_seconds=0)
    assert (living.attempt, living.snapshot, living.cutoff_seq) == (2, frozen.snapshot, frozen.cutoff_seq)
    assert not store.renew_retrain(dead, {"phase": "train"})
    assert store.freeze_retrain(dead) is None
    assert not store.finish_retrain(dead, state=DONE, outcome="From the grave.")
    assert store.renew_retrain(living, {"phase": "train", "epoch": 2})
    assert store.freeze_retrain(living) == store.get_retrain(living.id)
    assert store.finish_retrain(living, state=DONE, outcome="It is over.", version="p1-v1")
    ended = store.retrains(1)[0]
    assert (ended.state, ended.outcome, ended.version, ended.progress) == (
        DONE, "It is over.", "p1-v1", {"phase": "train", "epoch": 2},
    )  # fmt: skip
    assert store.claim_retrain(living.id, stale_after_seconds=0) is None


def test_a_retrain_that_kills_its_process_is_given_up(store: Store) -> None:
    correct(store, 1, 2, 3)
    retrain = requested(store)
    for attempt in range(1, MAX_DEATHS + 1):
        assert claimed(store, retrain, stale_after_seconds=0).attempt == attempt
    assert store.claim_retrain(retrain.id, stale_after_seconds=0) is None
    ended = store.get_retrain(retrain.id)
    assert ended is not None
    assert ended.state == FAILED
    assert "died 5 times" in (ended.outcome or "")
    assert store.request_retrain(1, asked=False, every=3) is None


def test_a_retrain_given_back_has_not_died(store: Store) -> None:
    correct(store, 1, 2, 3)
    retrain = requested(store)
    for attempt in range(1, 2 * MAX_DEATHS):
        running = claimed(store, retrain)
        assert running.attempt == attempt
        assert not store.release_retrain(replace(running, attempt=attempt - 1)), "only the newest attempt may"
        assert store.release_retrain(running)
        assert [each.id for each in store.queued_retrains()] == [retrain.id], "the next worker begins it at once"
    assert claimed(store, retrain).deaths == 0


def test_a_postponed_retrain_waits_longer_each_time_and_takes_in_what_came(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [now()]
    monkeypatch.setattr("backend.store.retrains.clock", lambda connection: clock[0])
    correct(store, 1, 2, 3)
    retrain = requested(store)
    for number in range(MAX_POSTPONED):
        running = claimed(store, retrain)
        frozen = store.freeze_retrain(running)
        assert frozen is not None
        assert store.postpone_retrain(frozen, "Label Studio is away.")
        assert store.claim_retrain(retrain.id) is None
        assert store.queued_retrains() == []
        waiting = requested(store)
        assert (waiting.id, waiting.state, waiting.outcome) == (retrain.id, QUEUED, "Label Studio is away.")
        clock[0] += timedelta(seconds=POSTPONED_SECONDS * 2**number)
        assert [each.id for each in store.queued_retrains()] == [retrain.id]
    seq = correct(store, 4)
    last = claimed(store, retrain)
    assert (last.postponed, last.deaths, last.outcome) == (MAX_POSTPONED, 0, None)
    frozen = store.freeze_retrain(last)
    assert frozen is not None
    assert frozen.cutoff_seq == seq


def test_there_is_nothing_to_claim_that_was_never_requested(store: Store) -> None:
    assert store.claim_retrain(99) is None


def test_queued_retrains_are_known_without_redis(store: Store) -> None:
    correct(store, 1, 2, 3)
    store.record(saved(correction(9, project_id=2)))
    wanted = [requested(store), store.request_retrain(2, asked=True, every=3)]
    assert store.queued_retrains() == wanted
    claimed(store, requested(store))
    assert store.queued_retrains() == wanted[1:]
