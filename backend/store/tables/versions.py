"""Retrains, the model versions that they made, and which of these serve."""

from __future__ import annotations

import sqlalchemy as sa

from backend.store.tables.schema import Time, metadata

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

# `decision` is the verdict's, which may have hundreds of kilobytes with its examples.
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
    sa.Column("digest", sa.String(64)),
    sa.Column("decision", sa.String(16)),
    sa.Index(None, "project_id", "created_at"),
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

# Files of checkpoints and snapshots that the object store has. `folder` is relative to the data folder, `name` to it.
shared_files = sa.Table(
    "shared_files",
    metadata,
    sa.Column("folder", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
)
