"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alias_moves",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(255)),
        sa.Column("previous_id", sa.Integer()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("moved_by", sa.String(64), nullable=False),
        sa.Column("moved_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alias_moves"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alias_moves_project_id_id", "alias_moves", ["project_id", "id"])

    op.create_table(
        "correction_revisions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("annotation_id", sa.BigInteger(), nullable=False),
        sa.Column("event_seq", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger()),
        sa.Column("texts", sa.JSON(), nullable=False),
        sa.Column("typed", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime()),
        sa.Column("updated_at", sa.DateTime()),
        sa.Column("was_cancelled", sa.Boolean(), nullable=False),
        sa.Column("ground_truth", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.String(64)),
        sa.Column("annotator", sa.BigInteger()),
        sa.Column("lead_time_seconds", sa.Float()),
        sa.Column("parent_prediction", sa.BigInteger()),
        sa.Column("image", sa.Text()),
        sa.Column("draft_text", sa.Text()),
        sa.Column("draft_version", sa.String(255)),
        sa.Column("usable", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_correction_revisions"),
    )
    op.create_index("ix_correction_revisions_project_id_event_seq", "correction_revisions", ["project_id", "event_seq"])

    op.create_table(
        "corrections",
        sa.Column("annotation_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger()),
        sa.Column("texts", sa.JSON(), nullable=False),
        sa.Column("typed", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime()),
        sa.Column("updated_at", sa.DateTime()),
        sa.Column("was_cancelled", sa.Boolean(), nullable=False),
        sa.Column("ground_truth", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.String(64)),
        sa.Column("annotator", sa.BigInteger()),
        sa.Column("lead_time_seconds", sa.Float()),
        sa.Column("parent_prediction", sa.BigInteger()),
        sa.Column("image", sa.Text()),
        sa.Column("draft_text", sa.Text()),
        sa.Column("draft_version", sa.String(255)),
        sa.Column("usable", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("annotation_id", name="pk_corrections"),
    )
    op.create_index("ix_corrections_project_id_seq", "corrections", ["project_id", "seq"])
    op.create_index("ix_corrections_project_id_task_id", "corrections", ["project_id", "task_id"])

    op.create_table(
        "draft_failures",
        sa.Column("project_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "task_id", name="pk_draft_failures"),
    )
    op.create_table(
        "drafts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("image_key", sa.String(64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("served_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drafts"),
        sa.UniqueConstraint(
            "project_id", "task_id", "version", "image_key", name="uq_drafts_project_id_task_id_version_image_key"
        ),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_project_id_seq", "events", ["project_id", "seq"])

    op.create_table(
        "model_versions",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("project_id", sa.BigInteger()),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("parent", sa.String(255)),
        sa.Column("manifest", sa.Text()),
        sa.Column("snapshot", sa.String(64)),
        sa.Column("verdict", sa.JSON(none_as_null=True)),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_model_versions"),
    )
    op.create_index("ix_model_versions_project_id", "model_versions", ["project_id"])

    op.create_table(
        "projects",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("label_config", sa.Text()),
        sa.Column("hostname", sa.Text()),
        sa.Column("access_token", sa.Text()),
        sa.Column("training_asked", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
    )
    op.create_table(
        "retrains",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("snapshot", sa.String(64), nullable=False),
        sa.Column("cutoff_seq", sa.Integer(), nullable=False),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("version", sa.String(255)),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("requested_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime()),
        sa.Column("heartbeat_at", sa.DateTime()),
        sa.Column("ended_at", sa.DateTime()),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("postponed", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime()),
        sa.PrimaryKeyConstraint("id", name="pk_retrains"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_retrains_project_id_state", "retrains", ["project_id", "state"])

    op.create_table(
        "tasks",
        sa.Column("project_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("image", sa.Text()),
        sa.Column("created_at", sa.DateTime()),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_tasks"),
    )


def downgrade() -> None:
    op.drop_table("tasks")
    op.drop_table("retrains")
    op.drop_table("projects")
    op.drop_table("model_versions")
    op.drop_table("events")
    op.drop_table("drafts")
    op.drop_table("draft_failures")
    op.drop_table("corrections")
    op.drop_table("correction_revisions")
    op.drop_table("alias_moves")
