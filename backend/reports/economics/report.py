"""The draft economics of a project, gathered from SQL."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from backend.domain.errors import CaptionerError
from backend.reports.economics.blind import blind_slice
from backend.reports.economics.curve import Curve, learning_curve
from backend.reports.economics.estimates import Estimate
from backend.reports.economics.groups import Economics, by_annotator, by_version, economics
from backend.reports.economics.measures import is_drafted, measure, seconds
from backend.reports.economics.waving import Waving, waving
from backend.store.store import Store


@dataclass(frozen=True)
class BlindScore:
    """BLEU-4 of what a version would have drafted for so many blind tasks, against what people typed."""

    tasks: int
    bleu_4: Estimate | None


@dataclass(frozen=True)
class Report:
    """All figures of one project. `corrections` are the usable ones; `drafted` of them began as a draft of a version,
    `copied` as a correction of nearly the same image, `blind` in an empty box on purpose."""

    project: int
    corrections: int
    drafted: int
    copied: int
    blind: int
    total: Economics | None
    versions: tuple[Economics, ...]
    annotators: tuple[Economics, ...]
    blind_scores: dict[str, BlindScore]
    reasons: dict[str, int]
    waving: Waving
    curve: Curve

    def to_json(self) -> dict[str, Any]:
        return _plain(asdict(self))


def report(store: Store, project_id: int, names: bool = False) -> Report:
    """With `names`, annotators by their numbers in Label Studio. Raises CaptionerError where nothing was corrected."""
    corrected = store.corrected_drafts(project_id)
    if not corrected:
        others = ", ".join(str(project.id) for project in store.projects() if project.id != project_id)
        known = f"; other projects are {others}" if others else ""
        raise CaptionerError(f"Project {project_id} has no corrections to report on{known}.")
    rows = measure(corrected)
    unseen = [each for each in corrected if each.blind]
    blind = blind_slice(corrected, store.withheld_drafts(project_id))
    versions = by_version(rows)
    return Report(
        project=project_id,
        corrections=len(corrected),
        drafted=len(rows),
        copied=sum(bool(each.draft) and not is_drafted(each) for each in corrected),
        blind=len(unseen),
        total=economics("all drafts", rows, seconds(unseen)) if len(rows) else None,
        versions=tuple(versions),
        annotators=tuple(by_annotator(rows, unseen, store.annotators(project_id), names)),
        blind_scores={name: BlindScore(blind.number(name), blind.bleu_4(name)) for name in blind.drafted},
        reasons=dict(Counter(reason for each in rows.reasons for reason in each).most_common()),
        waving=waving(rows, blind),
        curve=learning_curve(rows, store.learned_corrections(project_id), len(corrected)),
    )


def _plain(value: Any) -> Any:
    """The value with estimates as objects, for JSON."""
    if isinstance(value, Estimate):
        return value._asdict()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
