"""Indexes for what is asked for every second, and the decision of a verdict in a column of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

COPIED = sa.text("from_task IS NOT NULL")
DRAFTS = "ix_drafts_project_id_id", "ix_drafts_project_id_image_sha256", "ix_drafts_project_id_from_task"
FEATURES = "ix_features_project_id_encoder_id"
VERSIONS, OLD_VERSIONS = "ix_model_versions_project_id_created_at", "ix_model_versions_project_id"


def upgrade() -> None:
    op.create_index(DRAFTS[0], "drafts", ["project_id", "id"])
    op.create_index(DRAFTS[1], "drafts", ["project_id", "image_sha256"])
    op.create_index(DRAFTS[2], "drafts", ["project_id", "from_task"], sqlite_where=COPIED, postgresql_where=COPIED)
    op.create_index(FEATURES, "features", ["project_id", "encoder", "id"])
    op.create_index(VERSIONS, "model_versions", ["project_id", "created_at"])
    op.drop_index(OLD_VERSIONS, "model_versions")
    op.add_column("model_versions", sa.Column("decision", sa.String(16)))
    versions = sa.table(
        "model_versions", sa.column("name", sa.String), sa.column("verdict", sa.JSON), sa.column("decision", sa.String)
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(versions.c.name, versions.c.verdict)).all()
    for name, verdict in rows:
        if isinstance(verdict, dict) and isinstance(verdict.get("decision"), str):
            decided = versions.update().where(versions.c.name == name)
            connection.execute(decided.values(decision=verdict["decision"][:16]))


def downgrade() -> None:
    op.drop_column("model_versions", "decision")
    op.create_index(OLD_VERSIONS, "model_versions", ["project_id"])
    op.drop_index(VERSIONS, "model_versions")
    op.drop_index(FEATURES, "features")
    for name in DRAFTS:
        op.drop_index(name, "drafts")
