"""The schema of version 0.1.0, where migrations begin. New databases are made from backend/store/tables."""

revision = "0003"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: a database without a revision is a new one."""
