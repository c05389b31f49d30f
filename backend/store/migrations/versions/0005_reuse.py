"""Features of drafted images, drafts copied from corrections, and how far waiting drafts follow the corrections."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = ["project_id", "task_id", "version", "image_key"]
UNIQUE, INDEX = (f"{kind}_drafts_{'_'.join(KEY)}" for kind in ("uq", "ix"))


def upgrade() -> None:
    op.create_table(
        "features",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("encoder", sa.String(64), nullable=False),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("feature", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_features"),
        sa.UniqueConstraint(
            "project_id", "encoder", "image_sha256", name="uq_features_project_id_encoder_image_sha256"
        ),
        sqlite_autoincrement=True,
    )
    op.add_column("projects", sa.Column("reused_seq", sa.Integer, nullable=False, server_default="0"))
    with op.batch_alter_table("drafts") as table:
        table.add_column(sa.Column("from_task", sa.BigInteger))
        table.drop_constraint(UNIQUE, type_="unique")
    op.create_index(INDEX, "drafts", KEY)


def downgrade() -> None:
    drafts = sa.table("drafts", *map(sa.column, ("id", *KEY)))
    first = sa.select(sa.func.min(drafts.c.id)).group_by(*(drafts.c[name] for name in KEY))
    op.get_bind().execute(drafts.delete().where(drafts.c.id.not_in(first)))
    op.drop_index(INDEX, "drafts")
    with op.batch_alter_table("drafts") as table:
        table.drop_column("from_task")
        table.create_unique_constraint(UNIQUE, KEY)
    with op.batch_alter_table("projects") as table:
        table.drop_column("reused_seq")
    op.drop_table("features")
