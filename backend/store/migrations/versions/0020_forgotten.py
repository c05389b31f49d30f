"""Annotations and tasks that were forgotten on purpose, and are not taken in again."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TABLES = ("corrections", "correction_revisions", "tasks")


def upgrade() -> None:
    for name in TABLES:
        op.add_column(name, sa.Column("forgotten", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.drop_column("forgotten")
