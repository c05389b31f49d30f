"""Selections: which waiting tasks annotators are given first, and how far Label Studio knows it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "selections",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("strategy", sa.String(64), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("after_promotions", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.String(255)),
        sa.Column("sampling_before", sa.String(64)),
        sa.Column("ordered_at", sa.DateTime, nullable=False),
        sa.Column("due_at", sa.DateTime, nullable=False),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_selections"),
        sa.UniqueConstraint("project_id", "number", name="uq_selections_project_id_number"),
    )
    op.create_table(
        "selected_tasks",
        sa.Column("selection_id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("task_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("rank", sa.Integer),
        sa.Column("is_control", sa.Boolean, nullable=False),
        sa.Column("stored", sa.Boolean, nullable=False),
        sa.Column("disagreement", sa.Float),
        sa.PrimaryKeyConstraint("selection_id", "task_id", name="pk_selected_tasks"),
    )


def downgrade() -> None:
    op.drop_table("selected_tasks")
    op.drop_table("selections")
