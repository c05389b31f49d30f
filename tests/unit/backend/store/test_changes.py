"""The sums of what corrections change are those of all corrections, however these came about."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa

from backend.domain.corrections import Event
from backend.reports.economics.measures import measure
from backend.store.database import _alembic
from backend.store.drafts.changes import DraftChanges
from backend.store.store import Store
from tests.factories import correction, draft, saved

TASKS = range(1, 40)
TEXTS = ("a dog", "a brown dog runs", "two dogs", "", "A dog")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'captioner.db'}")
    store.migrate()
    return store


def sums(store: Store, project_id: int) -> dict[str | None, DraftChanges]:
    """Those that say anything."""
    found = {each.version: each for each in store.draft_changes(project_id)}
    return {version: each for version, each in found.items() if each.corrections or each.skipped}


def counted_anew(store: Store, project_id: int) -> Mapping[str | None, tuple[int, ...]]:
    corrected = store.corrected_drafts(project_id)
    rows = measure(corrected, keystrokes=False)
    found: dict[str | None, tuple[int, ...]] = {}
    for version in {*rows.version.tolist()}:
        own = rows.where(rows.version == version)
        found[version] = (len(own), 0, int(own.unchanged.sum()), int(own.edits.sum()), int(own.words.sum()))
    skipped = len(store.corrections(project_id, usable=False)) - len(store.corrections(project_id))
    if skipped or len(rows) < len(corrected):
        found[None] = (len(corrected) - len(rows), skipped, 0, 0, 0)
    return found


def drafted(store: Store, chance: random.Random) -> None:
    for project_id in (1, 2):
        versions = [chance.choice(["v1", "v2"]) for _ in TASKS]
        made = zip(TASKS, versions, strict=True)
        store.add_drafts(
            project_id, [draft(id, name, chance.choice(TEXTS), project_id=project_id) for id, name in made]
        )


def happens(store: Store, chance: random.Random, second: int) -> None:
    """Corrections are saved, saved again, skipped, or brought back; annotations or tasks are deleted."""
    project_id, ids = chance.choice([1, 1, 2]), chance.sample(TASKS, 4)
    if second % 8 == 6:
        store.record(Event(action="ANNOTATIONS_DELETED", project_id=project_id, deleted_annotations=(ids[0],)))
    elif second % 16 == 7:
        store.record(Event(action="TASKS_DELETED", project_id=project_id, deleted_tasks=(ids[0],)))
    else:
        made = []
        for id in ids:
            texts = tuple(text for text in chance.sample(TEXTS, chance.choice([1, 1, 2])) if text)
            skipped = chance.random() < 0.1
            made.append(
                correction(id, "", second, project_id=project_id, texts=texts, typed=texts, was_cancelled=skipped)
            )
        store.record(saved(*made))


def test_the_sums_are_those_of_all_corrections_whatever_happened(store: Store) -> None:
    chance = random.Random(7)
    drafted(store, chance)
    for second in range(40):
        happens(store, chance, second)
    for project_id in (1, 2):
        found = {name: tuple(vars(each).values())[1:] for name, each in sums(store, project_id).items()}
        assert found == counted_anew(store, project_id)
        assert {None, "v1", "v2"} <= found.keys()
    assert store.counts(1).corrections == len(store.corrections(1))


def test_an_older_database_gets_the_sums_of_its_corrections(store: Store) -> None:
    chance = random.Random(8)
    drafted(store, chance)
    for second in range(10):
        happens(store, chance, second)
    before = sums(store, 1)
    words = "SELECT annotation_id, word_edits, words FROM corrections WHERE usable AND draft_text <> '' ORDER BY 1"
    with store.engine.begin() as connection:
        measured = connection.execute(sa.text(words)).all()
        config = _alembic()
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "0015")
    assert store.schema() == "older"
    store.migrate()
    assert sums(store, 1) == before
    with store.reading() as connection:
        assert connection.execute(sa.text(words)).all() == measured


def test_the_latest_corrections_come_first_and_only_so_many(store: Store) -> None:
    store.record(saved(*(correction(number) for number in range(1, 6))))
    store.record(saved(correction(2, "changed", second=1)))
    store.record(saved(correction(6, "", second=1)))
    assert [each.annotation_id for each in store.latest_corrections(1, 3)] == [2, 5, 4]
    assert [each.annotation_id for each in store.latest_corrections(1, 3, up_to_seq=1)] == [5, 4, 3]
