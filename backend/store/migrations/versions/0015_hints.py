"""What the annotator typed to have the caption of a correction completed."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("corrections", "correction_revisions"):
        op.add_column(name, sa.Column("hints", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    for name in ("corrections", "correction_revisions"):
        with op.batch_alter_table(name) as table:
            table.drop_column("hints")
