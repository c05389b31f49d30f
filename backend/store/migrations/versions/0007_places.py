"""The places of images. An image that has shown a draft is not blind; one whose every draft was empty is."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "places",
        sa.Column("project_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("place", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "image_sha256", name="pk_places"),
    )
    drafts = sa.table("drafts", *map(sa.column, ("project_id", "image_sha256", "text")))
    made = sa.table("corrections", *map(sa.column, ("project_id", "image_sha256", "draft_text")))
    shown = sa.union_all(sa.select(drafts), sa.select(made).where(made.c.draft_text.is_not(None))).subquery()
    image = shown.c.project_id, shown.c.image_sha256
    known = sa.select(*image, sa.func.max(shown.c.text)).where(shown.c.image_sha256.is_not(None)).group_by(*image)
    rows = [
        {"project_id": project_id, "image_sha256": sha256, "place": _place(sha256) if text else "blind"}
        for project_id, sha256, text in op.get_bind().execute(known)
    ]
    if rows:
        op.bulk_insert(table, rows)


def _place(sha256: str) -> str:
    position = int(hashlib.sha256(sha256.encode()).hexdigest()[:13], 16) / 16**13
    return "held_out" if position < 0.15 else "dev" if position < 0.25 else "train"


def downgrade() -> None:
    op.drop_table("places")
