"""Which files of checkpoints and snapshots lie in the object store, by content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from backend.store.database import Database
from backend.store.keeping.paths import named
from backend.store.tables import shared_files

_NO_PROJECT = 0
"""Row 0 of the projects is the lock for what belongs to none."""


class SharedFiles:
    """The SHA-256 of each shared file of a folder in the data folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, folder: Path) -> dict[str, str]:
        """SHA-256 by the name of each file below the folder; none where the folder is not shared."""
        query = sa.select(shared_files.c.name, shared_files.c.sha256)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(shared_files.c.folder == named(folder, self._database.data_dir)))
            return {row.name: row.sha256 for row in rows}

    def everything(self) -> dict[Path, dict[str, str]]:
        """SHA-256 by the name of each file, of every folder of which files are shared."""
        found: dict[Path, dict[str, str]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(sa.select(shared_files)):
                found.setdefault((self._database.data_dir or Path()) / row.folder, {})[row.name] = row.sha256
        return found

    def folders(self) -> set[Path]:
        """The folders of which files are shared."""
        with self._database.reading() as connection:
            found = connection.scalars(sa.select(shared_files.c.folder).distinct())
            return {(self._database.data_dir or Path()) / folder for folder in found}

    def put(self, folder: Path, files: Mapping[str, str]) -> None:
        """Store which files below the folder are in the object store, in place of those known before."""
        name = named(folder, self._database.data_dir)
        rows = [{"folder": name, "name": file, "sha256": sha256} for file, sha256 in files.items()]
        with self._database.writing(_NO_PROJECT) as connection:
            connection.execute(shared_files.delete().where(shared_files.c.folder == name))
            if rows:
                connection.execute(shared_files.insert(), rows)
