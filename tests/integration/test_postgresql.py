"""The store's own tests once more, on PostgreSQL: only the fixtures differ."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.store.database import Database
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import correction, saved
from tests.unit.backend.store.test_calibrations import *  # noqa: F403
from tests.unit.backend.store.test_changes import *  # noqa: F403
from tests.unit.backend.store.test_database import differences
from tests.unit.backend.store.test_outcomes import *  # noqa: F403
from tests.unit.backend.store.test_registry import *  # noqa: F403
from tests.unit.backend.store.test_retrains import *  # noqa: F403
from tests.unit.backend.store.test_selections import *  # noqa: F403
from tests.unit.backend.store.test_store import *  # noqa: F403


@pytest.fixture
def store(postgresql_url: str) -> Store:
    store = Store(postgresql_url)
    store.migrate()
    return store


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


def test_a_new_database_has_the_tables_that_the_code_knows(postgresql_url: str) -> None:
    databases = [Database(postgresql_url) for _ in range(4)]
    assert databases[0].schema() == "missing"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Database.migrate, databases))
    assert differences(databases[0]) == []
    assert databases[0].schema() == "newest"


def test_the_figures_of_projects_are_read(store: Store, registry: Registry) -> None:
    store.record(saved(correction(1), correction(2)))
    registry.register(ModelVersion("p1-v1", Path("p1-v1"), project_id=1, verdict={"decision": "held"}))
    registry.register(ModelVersion("p1-v2", Path("p1-v2"), project_id=1))
    (found,) = store.totals()
    assert (found.project_id, found.waiting, dict(found.verdicts)) == (1, 2, {"held": 1, "none": 1})
