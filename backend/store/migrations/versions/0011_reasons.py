"""Why the draft of a correction was wrong, as the annotator chose."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("corrections", "correction_revisions"):
        op.add_column(name, sa.Column("reasons", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    for name in ("corrections", "correction_revisions"):
        with op.batch_alter_table(name) as table:
            table.drop_column("reasons")
