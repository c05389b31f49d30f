"""What adaptation is measured on: a base that lacks something, corrections that bring it, and images that score it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.annotator import corrected, house_style
from training.data import manifest
from training.data.manifest import Row

WINTER = re.compile(r"\b(snow\w*|ski(s|er|ers|ing|ed)?|sled\w*|ice|icy|hockey)\b", re.IGNORECASE)
WATER = re.compile(r"\b(water|ocean|sea|lake|river|pool|swim\w*|surf\w*|waves?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Base:
    """`rows` are learned before any correction, those of split "dev" choose the epoch; `scored` shows forgetting."""

    name: str
    rows: Sequence[Row]
    scored: Sequence[Row]


@dataclass(frozen=True)
class Scenario:
    """Images that are `corrected` in order, and others that are `scored`: neither learned nor chosen by.

    `rewrite` is what the annotators do with a human caption; `subject` finds the words that the base has never seen.
    """

    name: str
    base: Base
    corrected: Sequence[Row]
    scored: Sequence[Row]
    rewrite: Callable[[str], str] = str
    subject: re.Pattern[str] | None = None

    def corrections(self, drafts: Sequence[str]) -> list[Row]:
        """One human caption an image: the one that is nearest to its draft."""
        return [
            replace(row, references=(self.rewrite(corrected(draft, row.references)),), split=manifest.TRAIN)
            for row, draft in zip(self.corrected, drafts, strict=True)
        ]

    @property
    def references(self) -> list[list[str]]:
        return [[self.rewrite(text) for text in row.references] for row in self.scored]


def scenarios(rows: Sequence[Row], corrections: int, scored: int) -> list[Scenario]:
    """A new subject (winter), a house style, more of the same, and another subject (water) as a check.

    At most `corrections` images are corrected and `scored` scored in each. The images of a style and of the same are of
    no winter scene, and the base does not learn them.
    """
    ordered = in_order(rows)
    known = [row for row in ordered if row.split == manifest.TRAIN and not mentions(row.references, WINTER)]
    more = known[:corrections], known[corrections : corrections + scored]
    taken = {row.sha256 for part in more for row in part}
    base = base_without("winter", [row for row in ordered if row.sha256 not in taken], WINTER)
    return [
        _new_subject(ordered, base, WINTER, corrections, scored),
        Scenario("style", base, *more, rewrite=house_style),
        Scenario("same", base, *more),
        _new_subject(ordered, base_without("water", ordered, WATER), WATER, corrections, scored),
    ]


def in_order(rows: Sequence[Row]) -> list[Row]:
    """The rows in an order that depends on their contents alone."""
    return sorted(rows, key=lambda row: manifest.split_position(row.sha256, "adaptation:"))


def mentions(captions: Sequence[str], subject: re.Pattern[str]) -> bool:
    return any(subject.search(text) for text in captions)


def base_without(name: str, rows: Sequence[Row], subject: re.Pattern[str]) -> Base:
    """A base without the subject; half of the development images score it."""
    others = [row for row in rows if not mentions(row.references, subject)]
    dev = [row for row in others if row.split == manifest.DEV]
    scored = dev[len(dev) // 2 :]
    left_out = {row.sha256 for row in scored}
    return Base(name, [row for row in others if row.sha256 not in left_out], scored)


def _new_subject(rows: Sequence[Row], base: Base, subject: re.Pattern[str], corrections: int, scored: int) -> Scenario:
    about = [row for row in rows if mentions(row.references, subject)]
    about.sort(key=lambda row: row.split == manifest.DEV)  # those of the development images score
    return Scenario(base.name, base, about[:corrections], about[corrections:][-scored:], subject=subject)
