"""What was read from Label Studio and when; hashes of corrected images; why a correction was deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("seen", sa.String(64)))
    op.add_column("drafts", sa.Column("image_sha256", sa.String(64)))
    for table in ("corrections", "correction_revisions"):
        op.add_column(table, sa.Column("image_sha256", sa.String(64)))
        op.add_column(table, sa.Column("deleted_with_task", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "reconciliations",
        sa.Column("project_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("compared_at", sa.DateTime()),
        sa.Column("completed_at", sa.DateTime()),
        sa.Column("completed_tasks", sa.Integer(), nullable=False),
        sa.Column("completed_requests", sa.Integer(), nullable=False),
        sa.Column("completed_seconds", sa.Float(), nullable=False),
        sa.Column("repairs", sa.JSON(), nullable=False),
        sa.Column("repaired", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.DateTime()),
        sa.Column("failure", sa.Text()),
        sa.PrimaryKeyConstraint("project_id", name="pk_reconciliations"),
    )


def downgrade() -> None:
    op.drop_table("reconciliations")
    for table in ("correction_revisions", "corrections"):
        op.drop_column(table, "deleted_with_task")
        op.drop_column(table, "image_sha256")
    op.drop_column("drafts", "image_sha256")
    op.drop_column("tasks", "seen")
