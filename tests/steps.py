"""How many steps SQLite takes: whether something takes longer the more there is, on whatever machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from backend.store.database import Database

EVERY = 100


def steps(database: Database, do: Callable[[], Any]) -> int:
    """Hundreds of steps that SQLite takes for what is done through this database."""
    taken: list[int] = []

    def count(connection: Any, _: object) -> None:
        connection.set_progress_handler(lambda: taken.append(1) and None, EVERY)

    database.close()  # so that connections are made anew
    sa.event.listen(database.engine, "connect", count)
    try:
        do()
    finally:
        sa.event.remove(database.engine, "connect", count)
        database.close()
    return len(taken)
