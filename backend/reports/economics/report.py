"""The draft economics of a project, gathered from SQL."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backend.domain.errors import CaptionerError
from backend.reports import scores
from backend.reports.economics.blind import blind_slice
from backend.reports.economics.curve import Curve, learning_curve
from backend.reports.economics.estimates import Estimate
from backend.reports.economics.groups import Economics, by_annotator, by_selection, by_version, economics
from backend.reports.economics.hints import asked_for
from backend.reports.economics.measures import is_drafted, measure, seconds
from backend.reports.economics.waving import Waving, waving
from backend.store.drafts.outcomes import CorrectedDraft
from backend.store.store import Store


@dataclass(frozen=True)
class BlindScore:
    """BLEU-4 of what a version would have drafted for so many blind tasks, against what people typed."""

    tasks: int
    bleu_4: Estimate | None


@dataclass(frozen=True)
class Report:
    """All figures of one project. `corrections` are the usable ones, `kinds` says what they began as.

    `blind_scores`, `waving` and `curve` are of tasks that no strategy chose, for what it chooses is harder. `hints` are
    words that were asked for often and that the drafts lacked. `score` is that of `captioner status`.
    """

    project: int
    corrections: int
    kinds: dict[str, int]
    total: Economics | None
    versions: tuple[Economics, ...]
    annotators: tuple[Economics, ...]
    selections: tuple[Economics, ...]
    blind_scores: dict[str, BlindScore]
    reasons: dict[str, int]
    hints: dict[str, int]
    waving: Waving
    curve: Curve
    score: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return _plain(asdict(self))


def report(store: Store, project_id: int, names: bool = False) -> Report:
    """With `names`, annotators by their numbers in Label Studio. Raises CaptionerError where nothing was corrected."""
    corrected = store.corrected_drafts(project_id)
    if not corrected:
        projects = ", ".join(str(project.id) for project in store.projects() if project.id != project_id)
        known = f"; other projects are {projects}" if projects else ""
        raise CaptionerError(f"Project {project_id} has no corrections to report on{known}.")
    rows = measure(corrected)
    unseen = [each for each in corrected if each.blind]
    selected = store.selected_tasks(project_id)
    others = [each for each in corrected if selected.get(each.task, True)]
    others_rows = rows.where(np.array([selected.get(task, True) for task in rows.task.tolist()], dtype=bool))
    blind = blind_slice(others, store.withheld_drafts(project_id))
    return Report(
        project=project_id,
        corrections=len(corrected),
        kinds=dict(Counter(map(_kind, corrected)).most_common()),
        total=economics("all drafts", rows, seconds(unseen)) if len(rows) else None,
        versions=tuple(by_version(rows)),
        annotators=tuple(by_annotator(rows, unseen, store.annotators(project_id), names)),
        selections=tuple(by_selection(rows, selected)),
        blind_scores={name: BlindScore(blind.number(name), blind.bleu_4(name)) for name in blind.drafted},
        reasons=dict(Counter(reason for each in rows.reasons for reason in each).most_common()),
        hints=asked_for(corrected),
        waving=waving(others, blind),
        curve=learning_curve(others_rows, store.learned_corrections(project_id), len(corrected)),
        score=scores.report(store, project_id),
    )


def _kind(each: CorrectedDraft) -> str:
    """What a correction began as."""
    if each.draft:
        return "of drafts" if is_drafted(each) else "of copied corrections"
    if each.draft is None:
        return "of tasks that had no draft"
    return "of blind tasks" if each.blind else "of tasks whose draft was withheld"


def _plain(value: Any) -> Any:
    """The value with estimates as objects, for JSON."""
    if isinstance(value, Estimate):
        return value._asdict()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
