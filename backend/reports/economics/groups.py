"""The economics of the drafts of each version, and of those that each annotator corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from backend.reports.economics import estimates
from backend.reports.economics.estimates import Estimate
from backend.reports.economics.measures import NOBODY, Measures, annotators, seconds
from backend.store.drafts.outcomes import CorrectedDraft


@dataclass(frozen=True)
class Economics:
    """What a group of drafts was worth.

    `within_one`: at most one word was changed, which counts as accepted. `edits` and its three parts are words a draft,
    `edits_a_word` is words changed over words of the corrections. `keystrokes` is the share of the characters of the
    corrections that nobody had to type: their number less that of the edited ones. It is an estimate, since a person
    may type a word anew for one letter. `seconds` is the median lead time; `without` that of blind tasks.
    """

    name: str
    corrections: int
    unchanged: Estimate
    within_one: Estimate
    edits: Estimate
    inserted: Estimate
    deleted: Estimate
    replaced: Estimate
    edits_a_word: Estimate
    keystrokes: Estimate
    seconds: Estimate | None
    without: Estimate | None = None
    saved: Estimate | None = None
    reasons: dict[str, int] = field(default_factory=dict)


def economics(name: str, rows: Measures, blind_seconds: np.ndarray | None = None) -> Economics:
    """Of at least one row; `blind_seconds` are lead times of the same people without a draft."""

    def some(found: Estimate | None) -> Estimate:
        return found or Estimate(0.0)

    number = len(rows)
    with_draft = estimates.median(rows.seconds)
    without = None if blind_seconds is None else estimates.median(blind_seconds)
    return Economics(
        name=name,
        corrections=number,
        unchanged=some(estimates.share(int(rows.unchanged.sum()), number)),
        within_one=some(estimates.share(int((rows.edits <= 1).sum()), number)),
        edits=some(estimates.mean(rows.edits)),
        inserted=some(estimates.mean(rows.inserted)),
        deleted=some(estimates.mean(rows.deleted)),
        replaced=some(estimates.mean(rows.replaced)),
        edits_a_word=some(estimates.ratio(rows.edits, rows.words)),
        keystrokes=some(estimates.ratio(rows.characters - rows.character_edits, rows.characters)),
        seconds=with_draft,
        without=without,
        saved=estimates.difference(without, with_draft),
        reasons=dict(sorted(Counter(reason for each in rows.reasons for reason in each).items())),
    )


def by_version(rows: Measures) -> list[Economics]:
    """In the order in which annotators met them."""
    return [
        economics(version, rows.where(np.flatnonzero(rows.version == version)))
        for version in dict.fromkeys(rows.version.tolist())
    ]


CHOSEN, CONTROLS, OTHERS = "selected by a strategy", "selected at random", "not selected"


def by_selection(rows: Measures, selected: Mapping[int, bool]) -> list[Economics]:
    """Of tasks that a strategy chose, that were drawn at random beside them, and of all others; nothing where nothing
    was selected."""
    kinds = np.array([_KINDS[selected.get(task)] for task in rows.task.tolist()], dtype=object)
    groups = [(name, np.flatnonzero(kinds == name)) for name in (CHOSEN, CONTROLS, OTHERS)] if selected else []
    return [economics(name, rows.where(some)) for name, some in groups if len(some)]


_KINDS = {False: CHOSEN, True: CONTROLS, None: OTHERS}


def by_annotator(
    rows: Measures, blind: Sequence[CorrectedDraft], known: Sequence[int], names: bool = False
) -> list[Economics]:
    """In the order of their first annotation, `known`, which numbers them; with `names` by their numbers in Label
    Studio. What nobody made, such as imported annotations, stands last."""
    blind_annotators, blind_seconds = annotators(blind), seconds(blind)
    found = []
    for number, annotator in enumerate((*known, NOBODY), start=1):
        mine = np.flatnonzero(rows.annotator == annotator)
        if len(mine):
            name = f"user {annotator}" if names else f"annotator {number}"
            without = blind_seconds[blind_annotators == annotator]
            found.append(economics("nobody" if annotator == NOBODY else name, rows.where(mine), without))
    return found
