"""Recent corrections beside the drafts they began as, with the words that were changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from backend.store.drafts.changes import measured
from backend.store.store import Store, StoredCorrection
from training.vocabulary import PIECE

SHOWN = 12
READ = 60
"""Newest corrections that are read to find so many that began as a draft."""
LONGEST = 200
"""Words of a caption that are compared; what follows is one piece."""
_ENDS = re.compile(r"(?<=[^.,;:!?…])(?=[.,;:!?…]+\s*$)")


class Piece(NamedTuple):
    """Words that both have, or that only the correction or only the draft has."""

    kind: Literal["same", "inserted", "deleted"]
    text: str


@dataclass(frozen=True)
class Example:
    """`others` are further captions of the same annotation, which are farther from the draft."""

    task: int
    version: str
    at: datetime
    kept: bool
    pieces: tuple[Piece, ...]
    others: tuple[str, ...]
    image_sha256: str | None


def examples(store: Store, project_id: int, version: str | None = None) -> list[Example]:
    """The newest first: of drafts of any version, or of this one."""
    latest = store.latest_corrections(project_id, READ, version=version)
    began = [each for each in latest if each.draft_text and each.draft_version]
    return [_example(each) for each in began[:SHOWN]]


def _example(made: StoredCorrection) -> Example:
    draft = made.draft_text or ""
    nearest = made.texts[0]
    if len(made.texts) > 1:
        edits = [measured([draft], [[text]])[0][0] for text in made.texts]
        nearest = made.texts[edits.index(min(edits))]
    return Example(
        task=made.task_id,
        version=made.draft_version or "",
        at=made.updated_at,
        kept=draft in made.texts,
        pieces=tuple(differences(draft, nearest)),
        others=tuple(text for text in made.texts if text is not nearest),
        image_sha256=made.image_sha256,
    )


def differences(draft: str, caption: str) -> Iterator[Piece]:
    """The pieces of both in order, what was deleted before what stands in its place. Without those that were deleted
    they are the caption."""
    old, new = _pieces(draft), _pieces(caption)
    matcher = SequenceMatcher(None, [each.strip() for each in old], [each.strip() for each in new], autojunk=False)
    for what, a, b, c, d in matcher.get_opcodes():
        if what == "equal":
            yield Piece("same", "".join(new[c:d]))
            continue
        if b > a:
            yield Piece("deleted", "".join(old[a:b]))
        if d > c:
            yield Piece("inserted", "".join(new[c:d]))


def _pieces(text: str) -> Sequence[str]:
    """Words, and the signs that end them, which else would make another word of the last one."""
    found: list[str] = [part for piece in PIECE.findall(text) for part in _ENDS.split(piece, maxsplit=1) if part]
    return found if len(found) <= LONGEST else [*found[:LONGEST], "".join(found[LONGEST:])]
