"""What all tables share. Label Studio's own ids are 64 bits wide, and so are all columns with one."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

_KEY = "%(table_name)s_%(column_0_N_name)s"
metadata = sa.MetaData(naming_convention={"ix": f"ix_{_KEY}", "uq": f"uq_{_KEY}", "pk": "pk_%(table_name)s"})


class Time(sa.types.TypeDecorator[datetime]):
    """A moment, stored as UTC without a time zone, because SQLite has none; read with the time zone UTC."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is None:
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.replace(tzinfo=UTC)
