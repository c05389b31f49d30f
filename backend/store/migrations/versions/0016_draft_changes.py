"""How many words each correction changed of its draft, sums of that by version, and failures by time."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

AT_ONCE = 10_000


def upgrade() -> None:
    for name in ("corrections", "correction_revisions"):
        op.add_column(name, sa.Column("word_edits", sa.Integer))
        op.add_column(name, sa.Column("words", sa.Integer))
    op.create_table(
        "draft_changes",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("corrections", sa.Integer, nullable=False),
        sa.Column("skipped", sa.Integer, nullable=False),
        sa.Column("kept", sa.Integer, nullable=False),
        sa.Column("word_edits", sa.Integer, nullable=False),
        sa.Column("words", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_draft_changes"),
        sa.UniqueConstraint("project_id", "version", name="uq_draft_changes_project_id_version"),
    )
    op.create_index("ix_draft_failures_project_id_failed_at", "draft_failures", ["project_id", "failed_at"])
    _count(op.get_bind())


def _count(connection: sa.Connection) -> None:
    """Fill both from the corrections there are."""
    from backend.store.drafts.changes import count_changes  # here, for it imports what other migrations do not need

    names = ("annotation_id", "project_id", "draft_version", "draft_text", "usable", "deleted")
    table = sa.table(
        "corrections", *map(sa.column, names), sa.column("texts", sa.JSON), sa.column("word_edits"), sa.column("words")
    )
    after = None
    while True:
        query = sa.select(table).order_by(table.c.annotation_id).limit(AT_ONCE)
        rows = connection.execute(query if after is None else query.where(table.c.annotation_id > after)).all()
        if not rows:
            return
        after = rows[-1].annotation_id
        counted = count_changes(connection, [dict(row._mapping) for row in rows], {})
        changed = [
            {"of": row["annotation_id"], "edits": row["word_edits"], "number": row["words"]}
            for row in counted
            if row["words"] is not None
        ]
        if changed:
            values: dict[str, Any] = {"word_edits": sa.bindparam("edits"), "words": sa.bindparam("number")}
            update = sa.update(table).where(table.c.annotation_id == sa.bindparam("of")).values(**values)
            connection.execute(update, changed)


def downgrade() -> None:
    op.drop_index("ix_draft_failures_project_id_failed_at", "draft_failures")
    op.drop_table("draft_changes")
    for name in ("corrections", "correction_revisions"):
        with op.batch_alter_table(name) as table:
            table.drop_column("words")
            table.drop_column("word_edits")
