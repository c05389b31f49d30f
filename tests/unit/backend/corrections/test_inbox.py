from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.corrections.inbox import Inbox
from backend.domain.corrections import Event
from backend.domain.errors import QueueError
from backend.store.retrains import Retrain
from backend.store.store import Store
from tests.factories import correction, saved, settings


class Queue:
    """Remembers what was handed over; `down` is Redis being away. What SQL held at that moment is noted too."""

    def __init__(self, store: Store) -> None:
        self.store, self.down = store, False
        self.handed_over: list[tuple[str, int]] = []

    def enqueue_retrain(self, retrain: Retrain) -> str:
        if self.down:
            raise QueueError("Redis cannot be reached.")
        self.handed_over.append((retrain.snapshot, len(Store(str(self.store.url)).corrections(1))))
        return "job"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


@pytest.fixture
def queue(store: Store) -> Queue:
    return Queue(store)


@pytest.fixture
def inbox(store: Store, queue: Any, tmp_path: Path) -> Inbox:
    return Inbox(store, queue, settings(tmp_path, CAPTIONER_RETRAIN_EVERY="2"))


def test_what_is_queued_has_been_committed(inbox: Inbox, queue: Queue) -> None:
    first = inbox.receive(saved(correction(1)))
    assert (first.job, queue.handed_over) == (None, [])
    second = inbox.receive(saved(correction(2)))
    assert (second.new_corrections, second.job) == (1, f"retrain-1-{second.seq}")
    assert queue.handed_over == [(f"1-{second.seq}", 2)]


def test_start_training_is_answered_with_its_retrain(inbox: Inbox, queue: Queue) -> None:
    inbox.receive(saved(correction(1)))
    receipt = inbox.receive(Event("START_TRAINING", 1))
    assert receipt.job == f"retrain-1-{receipt.seq}"
    assert len(queue.handed_over) == 1


def test_start_training_before_the_annotation_it_was_sent_for(inbox: Inbox) -> None:
    # Label Studio's "start training on annotation submission" sends START_TRAINING first
    assert inbox.receive(Event("START_TRAINING", 1)).job is None
    receipt = inbox.receive(saved(correction(1)))
    assert receipt.job == f"retrain-1-{receipt.seq}"


def test_a_running_retrain_is_named_but_not_queued_again(inbox: Inbox, queue: Queue, store: Store) -> None:
    inbox.receive(saved(correction(1), correction(2)))
    [retrain] = store.queued_retrains()
    store.claim_retrain(retrain.id)
    assert inbox.receive(Event("START_TRAINING", 1)).job == f"retrain-{retrain.snapshot}"
    assert len(queue.handed_over) == 1


def test_redis_being_away_loses_nothing(inbox: Inbox, queue: Queue, store: Store) -> None:
    queue.down = True
    receipt = inbox.receive(saved(correction(1), correction(2)))
    assert receipt.new_corrections == 2
    assert [retrain.snapshot for retrain in store.queued_retrains()] == [f"1-{receipt.seq}"]
    queue.down = False
    assert inbox.queue_due(1) == f"retrain-1-{receipt.seq}"
    assert queue.handed_over == [(f"1-{receipt.seq}", 2)]
