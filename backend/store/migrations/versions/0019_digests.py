"""Of each model version the digest that its checkpoint had when it was registered; unknown of those there are."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("digest", sa.String(64)))


def downgrade() -> None:
    with op.batch_alter_table("model_versions") as table:
        table.drop_column("digest")
