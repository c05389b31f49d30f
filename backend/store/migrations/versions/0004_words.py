"""Columns of `refreshes` and stored phases of retrains under their new names."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = {
    "looked": "checked",
    "looked_to": "checked_to",
    "in_hand": "being_edited",
    "part": "lease",
    "beat_at": "heartbeat_at",
}
PHASES = {"doubt": "mismatch", "remember": "index", "blend": "interpolate"}
LEFT = {"keep": "collect", "rehearse": "prepare"}
"""Phases that are part of another one now."""


def _rename(columns: dict[str, str], phases: dict[str, str]) -> None:
    with op.batch_alter_table("refreshes") as table:
        for old, new in columns.items():
            table.alter_column(old, new_column_name=new)
    retrains = sa.table("retrains", sa.column("id", sa.Integer), sa.column("progress", sa.JSON))
    connection = op.get_bind()
    for row in connection.execute(sa.select(retrains)).all():
        phase = row.progress.get("phase")
        if phase in phases:
            progress = {**row.progress, "phase": phases[phase]}
            connection.execute(retrains.update().where(retrains.c.id == row.id).values(progress=progress))


def upgrade() -> None:
    _rename(COLUMNS, PHASES | LEFT)


def downgrade() -> None:
    _rename({new: old for old, new in COLUMNS.items()}, {new: old for old, new in PHASES.items()})
