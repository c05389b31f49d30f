"""What a version would have drafted for a task that shows no draft."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("drafts", sa.Column("withheld", sa.Text))


def downgrade() -> None:
    with op.batch_alter_table("drafts") as table:
        table.drop_column("withheld")
