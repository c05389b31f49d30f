"""How much corrections change the drafts that they began as: the words of each, and sums by version.

The sums change in the transaction that writes a correction, so that reading them takes no longer the more there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backend.store.database import Database
from backend.store.tables import draft_changes
from training.metrics.alignment import word_changes

SUMS = ("corrections", "skipped", "kept", "word_edits", "words")
NO_VERSION = ""
"""Stands for what began as no draft of a version, and for what was skipped."""


@dataclass(frozen=True)
class DraftChanges:
    """Of the usable corrections that began as drafts of a version, None: of all others.

    `kept` of them have the draft, unchanged. `word_edits` of their `words` were changed; of several captions that one
    annotation gives, the nearest to the draft counts. `skipped` annotations have no caption to learn from.
    """

    version: str | None
    corrections: int
    skipped: int
    kept: int
    word_edits: int
    words: int


class ChangesReader(Database):
    """The part of the store that tells what became of drafts, by version."""

    def draft_changes(self, project_id: int) -> list[DraftChanges]:
        """In the order in which annotators met the versions."""
        mine = sa.select(draft_changes).where(draft_changes.c.project_id == project_id)
        with self.reading() as connection:
            rows = connection.execute(mine.order_by(draft_changes.c.id)).all()
        return [DraftChanges(row.version or None, *(getattr(row, name) for name in SUMS)) for row in rows]


def count_changes(
    connection: Connection, rows: Sequence[dict[str, Any]], known: Mapping[int, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """These rows of corrections, each with its words, in place of `known` ones with the same ids: the sums follow."""
    began = [row for row in rows if is_drafted(row)]
    measures = iter(measured([row["draft_text"] for row in began], [row["texts"] for row in began]))
    written = []
    for row in rows:
        edits, words = next(measures) if is_drafted(row) else (None, None)
        written.append({**row, "word_edits": edits, "words": words})
    changes: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for sign, some in ((1, written), (-1, known.values())):
        for each in some:
            sums = changes[each["project_id"], each["draft_version"] if is_drafted(each) else NO_VERSION]
            for place, number in enumerate(counts(each)):
                sums[place] += sign * number
    for (project_id, version), sums in sorted(changes.items()):
        if any(sums):
            _add(connection, project_id, version, dict(zip(SUMS, sums, strict=True)))
    return written


def is_drafted(row: Mapping[str, Any]) -> bool:
    """Whether it is usable and began as a draft with a version's words."""
    return bool(row["usable"] and row["draft_version"] and row["draft_text"])


def counts(row: Mapping[str, Any]) -> tuple[int, ...]:
    """What a correction adds to the sums."""
    skipped = not row["deleted"] and not row["usable"]
    if not is_drafted(row):
        return int(row["usable"]), int(skipped), 0, 0, 0
    kept = row["draft_text"] in row["texts"]
    return 1, 0, int(kept), row["word_edits"] or 0, row["words"] or 0


def measured(drafts: Sequence[str], captions: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Of each draft the words changed to make the nearest of its captions, and the words of that one."""
    owners = [number for number, some in enumerate(captions) for _ in some]
    changed = word_changes([drafts[number] for number in owners], [text for some in captions for text in some])
    found: list[tuple[int, int] | None] = [None] * len(drafts)
    for owner, (inserted, deleted, replaced, same) in zip(owners, changed.tolist(), strict=True):
        edits, nearest = inserted + deleted + replaced, found[owner]
        if nearest is None or edits < nearest[0]:
            found[owner] = edits, inserted + replaced + same
    return [each or (0, 0) for each in found]


def _add(connection: Connection, project_id: int, version: str, sums: Mapping[str, int]) -> None:
    table = draft_changes.c
    mine = (table.project_id == project_id) & (table.version == version)
    more = {name: table[name] + number for name, number in sums.items()}
    if not connection.execute(draft_changes.update().where(mine).values(**more)).rowcount:
        connection.execute(draft_changes.insert().values(project_id=project_id, version=version, **sums))
