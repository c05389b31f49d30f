"""The SQL tables. Migrations bring older databases to this schema; a test compares the result."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

_KEY = "%(table_name)s_%(column_0_N_name)s"
metadata = sa.MetaData(naming_convention={"ix": f"ix_{_KEY}", "uq": f"uq_{_KEY}", "pk": "pk_%(table_name)s"})


class Time(sa.types.TypeDecorator[datetime]):
    """A moment, stored as UTC without a time zone, because SQLite has none; read with the time zone UTC."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is None:
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.replace(tzinfo=UTC)


# Label Studio's own ids are 64 bits wide, and so are all columns with one.

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
# read in full from Label Studio; none where an event about it has come since.
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


def _revision_columns() -> list[sa.Column]:
    """Columns of one revision of an annotation; `draft_*` is the draft it started from, where one had been served.

    `image_sha256` hashes the image's bytes, once fetched. `deleted_with_task`: it was deleted because its task was.
    """
    return [
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("task_id", sa.BigInteger),
        sa.Column("texts", sa.JSON, nullable=False),
        sa.Column("typed", sa.JSON, nullable=False),
        sa.Column("created_at", Time),
        sa.Column("updated_at", Time),
        sa.Column("was_cancelled", sa.Boolean, nullable=False),
        sa.Column("ground_truth", sa.Boolean, nullable=False),
        sa.Column("origin", sa.String(64)),
        sa.Column("annotator", sa.BigInteger),
        sa.Column("lead_time_seconds", sa.Float),
        sa.Column("parent_prediction", sa.BigInteger),
        sa.Column("image", sa.Text),
        sa.Column("draft_text", sa.Text),
        sa.Column("draft_version", sa.String(255)),
        sa.Column("usable", sa.Boolean, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("recorded_at", Time, nullable=False),
        sa.Column("image_sha256", sa.String(64)),
        sa.Column("deleted_with_task", sa.Boolean, nullable=False, server_default=sa.false()),
    ]


# The newest revision of each annotation. `seq` is the event that last changed what can be learnt from it.
corrections = sa.Table(
    "corrections",
    metadata,
    sa.Column("annotation_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.Integer, nullable=False),
    *_revision_columns(),
    sa.Index(None, "project_id", "seq"),
    sa.Index(None, "project_id", "task_id"),
)

# Every revision ever recorded, the newest included: append-only, so that a snapshot can be of any event.
correction_revisions = sa.Table(
    "correction_revisions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("annotation_id", sa.BigInteger, nullable=False),
    sa.Column("event_seq", sa.Integer, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    *_revision_columns(),
    sa.Index(None, "project_id", "event_seq"),
)

# Drafts as they were shown, append-only: of a task, version and image the newest row counts. `from_task`: the task
# whose correction was copied; where it is empty the text is the version's own.
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
    sa.Index(None, "project_id", "task_id", "version", "image_key"),
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
    sqlite_autoincrement=True,
)

# Whether an image is learned, chooses or judges, fixed when first seen: see backend/store/places.py.
places = sa.Table(
    "places",
    metadata,
    sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("image_sha256", sa.String(64), primary_key=True),
    sa.Column("place", sa.String(16), nullable=False),
)

# Why a task got no draft, the last time one was requested.
draft_failures = sa.Table(
    "draft_failures",
    metadata,
    sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("task_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("failed_at", Time, nullable=False),
)

# Only the newest `attempt` may write. `frozen`: the snapshot changes no more. See backend/store/retrains.py.
retrains = sa.Table(
    "retrains",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("snapshot", sa.String(64), nullable=False),
    sa.Column("cutoff_seq", sa.Integer, nullable=False),
    sa.Column("frozen", sa.Boolean, nullable=False, default=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("version", sa.String(255)),
    sa.Column("progress", sa.JSON, nullable=False, default={}),
    sa.Column("requested_at", Time, nullable=False),
    sa.Column("started_at", Time),
    sa.Column("heartbeat_at", Time),
    sa.Column("ended_at", Time),
    sa.Column("deaths", sa.Integer, nullable=False, default=0),
    sa.Column("postponed", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", Time),
    sa.Index(None, "project_id", "state"),
    sqlite_autoincrement=True,
)

model_versions = sa.Table(
    "model_versions",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("project_id", sa.BigInteger),
    sa.Column("checkpoint", sa.Text, nullable=False),
    sa.Column("parent", sa.String(255)),
    sa.Column("manifest", sa.Text),
    sa.Column("snapshot", sa.String(64)),
    sa.Column("verdict", sa.JSON(none_as_null=True)),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Index(None, "project_id"),
)

# Moves of the champion alias, append-only: the newest row of a project says which version is its champion (None: the
# default one, project 0). `previous_id` is the move that a rollback goes back to.
alias_moves = sa.Table(
    "alias_moves",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    sa.Column("version", sa.String(255)),
    sa.Column("previous_id", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("moved_by", sa.String(64), nullable=False),
    sa.Column("moved_at", Time, nullable=False),
    sa.Index(None, "project_id", "id"),
    sqlite_autoincrement=True,
)
