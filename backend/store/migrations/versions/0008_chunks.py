"""Chunks of tasks that any number of workers draft, and what is known of the list that they are cut from."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "draft_chunks",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("of_version", sa.String(255)),
        sa.Column("after_task", sa.BigInteger, nullable=False),
        sa.Column("last_task", sa.BigInteger, nullable=False),
        sa.Column("tasks", sa.Integer, nullable=False),
        sa.Column("claim", sa.Integer, nullable=False),
        sa.Column("heartbeat_at", sa.DateTime),
        sa.PrimaryKeyConstraint("id", name="pk_draft_chunks"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("refreshes") as table:
        table.add_column(sa.Column("per_minute", sa.Integer))
        table.add_column(sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("jobs", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("refreshes") as table:
        for name in ("per_minute", "listed", "jobs"):
            table.drop_column(name)
    op.drop_table("draft_chunks")
