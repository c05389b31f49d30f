"""Corrections, in their newest revision and in every one."""

from __future__ import annotations

import sqlalchemy as sa

from backend.store.tables.schema import Time, metadata


def _revision_columns() -> list[sa.Column]:
    """Columns of one revision of an annotation; `draft_*` is the draft it started from, where one had been served.

    `image_sha256` hashes the image's bytes, once fetched. `deleted_with_task`: it was deleted because its task was.
    `reasons`: why that draft was wrong, as the annotator chose. `hints`: what they typed to have it completed.
    `word_edits` of the caption's `words` were changed; None where it began as no draft. `forgotten`: see
    backend/store/keeping.
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
        sa.Column("reasons", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("hints", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("word_edits", sa.Integer),
        sa.Column("words", sa.Integer),
        sa.Column("forgotten", sa.Boolean, nullable=False, server_default=sa.false()),
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
    sa.Index(None, "project_id", "draft_version", "seq"),
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
