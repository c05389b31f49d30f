"""The signals of drafts, and what was learned from them of a project's scores."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("drafts", sa.Column("signals", sa.JSON))
    op.create_table(
        "calibrations",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("corrections", sa.Integer, nullable=False),
        sa.Column("accepted", sa.Integer, nullable=False),
        sa.Column("calibration", sa.JSON),
        sa.Column("reliability", sa.JSON),
        sa.Column("made_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_calibrations"),
    )
    op.create_index("ix_calibrations_project_id", "calibrations", ["project_id"])


def downgrade() -> None:
    op.drop_index("ix_calibrations_project_id", "calibrations")
    op.drop_table("calibrations")
    with op.batch_alter_table("drafts") as table:
        table.drop_column("signals")
