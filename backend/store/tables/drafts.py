"""Drafts, the features of their images, how far waiting tasks have them, and which tasks are to be labelled first."""

from __future__ import annotations

import sqlalchemy as sa

from backend.store.tables.schema import Time, metadata

_COPIED = sa.text("from_task IS NOT NULL")

# Drafts as they were shown, append-only: of a task, version and image the newest row counts. `from_task`: the task
# whose correction was copied; where it is empty the text is the version's own. `withheld`: the version's own words
# where the text is empty so that nobody sees them. `signals`: what the score is made of.
drafts = sa.Table(
    "drafts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("task_id", sa.BigInteger, nullable=False),
    sa.Column("version", sa.String(255), nullable=False),
    sa.Column("image", sa.Text, nullable=False),
    sa.Column("image_key", sa.String(64), nullable=False),  # its SHA-256: an address may be too long for an index
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("served_at", Time, nullable=False),
    sa.Column("image_sha256", sa.String(64)),
    sa.Column("from_task", sa.BigInteger),
    sa.Column("withheld", sa.Text),
    sa.Column("signals", sa.JSON(none_as_null=True)),
    sa.Index(None, "project_id", "task_id", "version", "image_key"),
    sa.Index(None, "project_id", "id"),
    sa.Index(None, "project_id", "image_sha256"),
    sa.Index(None, "project_id", "from_task", sqlite_where=_COPIED, postgresql_where=_COPIED),
)

# Pooled features of drafted and learned images: halves, in bytes. `encoder` hashes all that decides them.
features = sa.Table(
    "features",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("encoder", sa.String(64), nullable=False),
    sa.Column("image_sha256", sa.String(64), nullable=False),
    sa.Column("feature", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("project_id", "encoder", "image_sha256"),
    sa.Index(None, "project_id", "encoder", "id"),
    sqlite_autoincrement=True,
)

# Why a task got no draft, the last time one was requested.
draft_failures = sa.Table(
    "draft_failures",
    metadata,
    sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("task_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("failed_at", Time, nullable=False),
    sa.Index(None, "project_id", "failed_at"),
)

# Sums over the corrections that began as drafts of a version: see backend/store/drafts/changes.py. `version` is empty
# for all others.
draft_changes = sa.Table(
    "draft_changes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("version", sa.String(255), nullable=False),
    sa.Column("corrections", sa.Integer, nullable=False),
    sa.Column("skipped", sa.Integer, nullable=False),
    sa.Column("kept", sa.Integer, nullable=False),
    sa.Column("word_edits", sa.Integer, nullable=False),
    sa.Column("words", sa.Integer, nullable=False),
    sa.UniqueConstraint("project_id", "version"),
)

# How far the drafts of a project's unlabelled tasks are those of a version: see backend/store/drafts/refreshes.py.
refreshes = sa.Table(
    "refreshes",
    metadata,
    sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("mode", sa.String(16)),
    sa.Column("wanted", sa.String(16)),
    sa.Column("version", sa.String(255)),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("stopped", sa.Boolean, nullable=False),
    sa.Column("of_version", sa.String(255)),
    sa.Column("after_task", sa.BigInteger, nullable=False),
    sa.Column("checked_to", sa.BigInteger, nullable=False),
    sa.Column("checked", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("stored", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("deleted", sa.Integer, nullable=False),
    sa.Column("being_edited", sa.Integer, nullable=False),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("begun_at", Time),
    sa.Column("due_at", Time),
    sa.Column("lease", sa.Integer, nullable=False),
    sa.Column("heartbeat_at", Time),
    sa.Column("failure", sa.Text),
    sa.Column("per_minute", sa.Integer),
    sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("jobs", sa.Integer, nullable=False, server_default="0"),
)

# Tasks of that list which a job drafts, or which it left: see backend/store/drafts/chunks.py. `id` is never used twice.
draft_chunks = sa.Table(
    "draft_chunks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("of_version", sa.String(255)),
    sa.Column("after_task", sa.BigInteger, nullable=False),
    sa.Column("last_task", sa.BigInteger, nullable=False),
    sa.Column("tasks", sa.Integer, nullable=False),
    sa.Column("claim", sa.Integer, nullable=False),
    sa.Column("heartbeat_at", Time),
    sqlite_autoincrement=True,
)

# Orders of people to have some waiting tasks labelled first: see backend/store/drafts/selections.py. `number` counts
# those of a project.
selections = sa.Table(
    "selections",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("strategy", sa.String(64), nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("after_promotions", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("version", sa.String(255)),
    sa.Column("sampling_before", sa.String(64)),
    sa.Column("ordered_at", Time, nullable=False),
    sa.Column("due_at", Time, nullable=False),
    sa.Column("reason", sa.Text),
    sa.UniqueConstraint("project_id", "number"),
)

# The tasks of a selection in the order of `rank`, from 1; one without is on the shortlist only, of which captions are
# sampled. `stored`: Label Studio has its prediction.
selected_tasks = sa.Table(
    "selected_tasks",
    metadata,
    sa.Column("selection_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("task_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("rank", sa.Integer),
    sa.Column("is_control", sa.Boolean, nullable=False),
    sa.Column("stored", sa.Boolean, nullable=False),
    sa.Column("disagreement", sa.Float),
)

# What was learned of a project's scores, append-only: see backend/store/drafts/calibrations.py.
calibrations = sa.Table(
    "calibrations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("corrections", sa.Integer, nullable=False),
    sa.Column("accepted", sa.Integer, nullable=False),
    sa.Column("calibration", sa.JSON(none_as_null=True)),
    sa.Column("reliability", sa.JSON(none_as_null=True)),
    sa.Column("made_at", Time, nullable=False),
    sa.Index(None, "project_id"),
)
