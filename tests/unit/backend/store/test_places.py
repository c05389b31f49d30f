from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.domain.splits import split_of
from backend.store.store import Store
from training.data.manifest import BLIND

HASHES = [f"{number:064x}" for number in range(200)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


def test_an_image_keeps_its_place_whatever_the_share_becomes(store: Store) -> None:
    first = store.place(1, HASHES[:100], 0.1)
    assert first == {sha256: split_of(sha256, 0.1) for sha256 in HASHES[:100]}
    raised = store.place(1, HASHES, 0.6)
    assert {sha256: raised[sha256] for sha256 in HASHES[:100]} == first
    assert {sha256: raised[sha256] for sha256 in HASHES[100:]} == {each: split_of(each, 0.6) for each in HASHES[100:]}
    assert store.place(1, HASHES, 0.0) == store.places(1, HASHES) == raised


def test_places_are_of_a_project(store: Store) -> None:
    store.place(1, HASHES[:1], 1.0)
    assert store.places(2, HASHES) == {}
    assert store.place(2, HASHES[:1], 0.0) == {HASHES[0]: split_of(HASHES[0], 0.0)}
    assert store.places(1, HASHES) == {HASHES[0]: BLIND}
    assert store.place(1, [], 0.5) == {}


def test_who_sees_an_image_at_the_same_time_gives_it_one_place(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda share: store.place(1, HASHES, share), (0.0, 1.0, 0.0, 1.0)))
    assert found == [found[0]] * 4
