"""The SQL tables. Migrations bring older databases to this schema; a test compares the result."""

from backend.store.tables.corrections import correction_revisions, corrections
from backend.store.tables.drafts import (
    calibrations,
    draft_changes,
    draft_chunks,
    draft_failures,
    drafts,
    features,
    refreshes,
    selected_tasks,
    selections,
)
from backend.store.tables.projects import events, places, projects, reconciliations, tasks
from backend.store.tables.schema import Time, metadata
from backend.store.tables.versions import alias_moves, model_versions, retrains, shared_files

__all__ = [
    "Time",
    "alias_moves",
    "calibrations",
    "correction_revisions",
    "corrections",
    "draft_changes",
    "draft_chunks",
    "draft_failures",
    "drafts",
    "events",
    "features",
    "metadata",
    "model_versions",
    "places",
    "projects",
    "reconciliations",
    "refreshes",
    "retrains",
    "selected_tasks",
    "selections",
    "shared_files",
    "tasks",
]
