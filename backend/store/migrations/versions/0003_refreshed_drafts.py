"""How far a project's drafts are those of the version that serves."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refreshes",
        sa.Column("project_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mode", sa.String(16)),
        sa.Column("wanted", sa.String(16)),
        sa.Column("version", sa.String(255)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("of_version", sa.String(255)),
        sa.Column("after_task", sa.BigInteger(), nullable=False),
        sa.Column("looked_to", sa.BigInteger(), nullable=False),
        sa.Column("looked", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("stored", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Integer(), nullable=False),
        sa.Column("in_hand", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("begun_at", sa.DateTime()),
        sa.Column("due_at", sa.DateTime()),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("beat_at", sa.DateTime()),
        sa.Column("failure", sa.Text()),
        sa.PrimaryKeyConstraint("project_id", name="pk_refreshes"),
    )


def downgrade() -> None:
    op.drop_table("refreshes")
