"""The latest corrections of a version's drafts, without reading those of others."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

INDEX, KEY = "ix_corrections_project_id_draft_version_seq", ["project_id", "draft_version", "seq"]


def upgrade() -> None:
    op.create_index(INDEX, "corrections", KEY)


def downgrade() -> None:
    op.drop_index(INDEX, "corrections")
