"""The place of each image of a project, which it keeps: learned, choosing, held out or blind."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from backend.domain.splits import split_of
from backend.store.database import Database, chunks
from backend.store.tables import places


class Places(Database):
    """The part of the store for the places of images."""

    def places(self, project_id: int, hashes: Sequence[str]) -> dict[str, str]:
        """The places of those of these images that have been seen, by their hashes."""
        with self.reading() as connection:
            return _places(connection, project_id, hashes)

    def place(self, project_id: int, hashes: Sequence[str], blind_share: float) -> dict[str, str]:
        """The places of these images, by their hashes; one that is seen for the first time gets its own from
        `split_of`, and keeps it whatever the share becomes."""
        known = self.places(project_id, hashes)
        if new := [sha256 for sha256 in dict.fromkeys(hashes) if sha256 not in known]:
            with self.writing(project_id, durable=False) as connection:
                known |= _places(connection, project_id, new)  # another process may have seen them meanwhile
                found = {sha256: split_of(sha256, blind_share) for sha256 in new if sha256 not in known}
                rows = [{"project_id": project_id, "image_sha256": each, "place": found[each]} for each in found]
                if rows:
                    connection.execute(places.insert(), rows)
            known |= found
        return known


def _places(connection: sa.Connection, project_id: int, hashes: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in chunks(hashes):
        mine = places.c.project_id == project_id, places.c.image_sha256.in_(some)
        found |= {row.image_sha256: row.place for row in connection.execute(sa.select(places).where(*mine))}
    return found
