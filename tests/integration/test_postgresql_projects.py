"""Comparing and refreshing a project once more, on PostgreSQL: only the store differs."""

from __future__ import annotations

import pytest

from backend.store.store import Store
from tests.unit.backend.corrections.test_reconcile import *  # noqa: F403
from tests.unit.backend.drafts.test_chunks import *  # noqa: F403
from tests.unit.backend.drafts.test_refresh import *  # noqa: F403


@pytest.fixture
def store(postgresql_url: str) -> Store:
    store = Store(postgresql_url)
    store.migrate()
    return store
