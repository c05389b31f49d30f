"""Projects of Label Studio: their events and tasks, and the last comparisons with Label Studio."""

from __future__ import annotations

import sqlalchemy as sa

from backend.store.tables.schema import Time, metadata

# One row for each Label Studio project. A transaction that changes anything of the project locks it, so that the
# numbers of its events are committed in order. `training_asked`: a person asked and no retrain has begun since.
# `reused_seq`: the event up to which waiting drafts follow the corrections.
projects = sa.Table(
    "projects",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("label_config", sa.Text),
    sa.Column("hostname", sa.Text),
    sa.Column("access_token", sa.Text),
    sa.Column("training_asked", sa.Boolean, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.Column("reused_seq", sa.Integer, nullable=False, server_default="0"),
)

# Every event as Label Studio sent it. `seq` is never used twice.
events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("received_at", Time, nullable=False),
    sa.Index(None, "project_id", "seq"),
    sqlite_autoincrement=True,
)

# `deleted` rows are tombstones; they stay so that a late event does not bring the task back. `created_at` tells a task
# from another that a Label Studio begun anew has given the same id. `seen` is a fingerprint of the task as it was last
# read in full from Label Studio; none where an event about it has come since. `forgotten`: see backend/store/keeping.
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("image", sa.Text),
    sa.Column("created_at", Time),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("recorded_at", Time, nullable=False),
    sa.Column("seen", sa.String(64)),
    sa.Column("forgotten", sa.Boolean, nullable=False, server_default=sa.false()),
)

# The last comparisons of a project with Label Studio and their repairs. A complete one compares every task.
reconciliations = sa.Table(
    "reconciliations",
    metadata,
    sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("compared_at", Time),
    sa.Column("completed_at", Time),
    sa.Column("completed_tasks", sa.Integer, nullable=False),
    sa.Column("completed_requests", sa.Integer, nullable=False),
    sa.Column("completed_seconds", sa.Float, nullable=False),
    sa.Column("repairs", sa.JSON, nullable=False),
    sa.Column("repaired", sa.Integer, nullable=False),
    sa.Column("failed_at", Time),
    sa.Column("failure", sa.Text),
    sa.Column("unreadable", sa.JSON, nullable=False, server_default="[]"),
)

# Whether an image is learned, chooses or judges, fixed when first seen: see backend/store/places.py.
places = sa.Table(
    "places",
    metadata,
    sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("image_sha256", sa.String(64), primary_key=True),
    sa.Column("place", sa.String(16), nullable=False),
)
