"""Everything that the page of a project shows, as the overview of all projects does in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.domain.errors import QueueError
from backend.queue import DRAFTS, RETRAINS, Queue
from backend.reports import progress
from backend.reports.edits import by_version
from backend.reports.overview import trend
from backend.reports.overview.gallery import Example, examples
from backend.reports.overview.trend import Judged, judged
from backend.reports.overview.troubles import Trouble, troubles
from backend.reports.overview.verdicts import Words, verdict, verdicts
from backend.reports.status import compared
from backend.settings import Settings
from backend.store.drafts.changes import DraftChanges
from backend.store.registry import DEFAULT, DROPPED, NEW, REJECTED, ModelVersion, Registry
from backend.store.totals import Totals

VERSIONS = 20
"""Most model versions on a page: the newest."""


@dataclass(frozen=True)
class Serving:
    """What this process of the ML backend has loaded and could not load, by project; `DEFAULT` for all others."""

    assigned: Mapping[int, str]
    refused: Mapping[int, str]

    def of(self, project_id: int) -> str | None:
        return self.assigned.get(project_id) or self.assigned.get(DEFAULT)


@dataclass(frozen=True)
class Drafts:
    """What annotators keep and change of the drafts of a version, or of all together (`version` None)."""

    version: str | None
    corrections: int
    kept_share: float
    edits: float
    edits_a_draft: float


@dataclass(frozen=True)
class Now:
    """How a project is now: what changes while somebody reads the page.

    `since` is when the champion began to serve; `serving` is what this process has loaded, which lags behind for the
    seconds that loading takes. `waiting` corrections are not learned yet, counted up to 10,000. `until_retrain` is None
    where retrains begin only when a person asks, `behind_seconds` where stored drafts do not follow corrections.
    """

    id: int
    champion: str | None
    since: datetime | None
    serving: str | None
    refused: str | None
    drafts: Drafts | None
    corrections: int
    skipped: int
    waiting: int
    behind_seconds: float | None
    held_out: int | None
    quarantined: int
    until_retrain: int | None
    training: Mapping[str, Any]
    verdict: Words | None
    queue: Mapping[str, Any]
    compared: Mapping[str, Any]
    troubles: Sequence[Trouble]

    @property
    def share_done(self) -> float | None:
        """Of the running retrain, or of its phase where it cannot be told how long the whole takes."""
        active = self.training["active"]
        for left, elapsed in (("left_seconds", "elapsed_seconds"), ("phase_left_seconds", "phase_seconds")):
            if active and active[left] is not None and active[elapsed]:
                return float(active[elapsed] / (active[elapsed] + active[left]))
        return None

    @property
    def mark(self) -> str:
        """Changes when the rest of the page is out of date: another champion, or a retrain that has ended."""
        last = self.training["last"]
        return f"{self.champion} {last and last['retrain']} {last and last['ended_at']}"


@dataclass(frozen=True)
class Whole:
    """What the rest of the page shows."""

    versions: Sequence[Judged]
    drafts: Sequence[Mapping[str, Any]]
    examples: Sequence[Example]

    def charts(self, project_id: int) -> dict[str, Any]:
        oldest_first = self.versions[::-1]
        return {
            "bleu": trend.bleu(oldest_first, f"p{project_id}-"),
            "kept": trend.kept(self.drafts),
            "edited": trend.edited(self.drafts),
        }


def now(settings: Settings, registry: Registry, jobs: Mapping[str, Any], serving: Serving, totals: Totals) -> Now:
    """Of the project that the totals are of."""
    store, project_id = registry.store, totals.project_id
    champion = registry.champion(project_id)
    changes = store.draft_changes(project_id)
    retrains = store.retrains(project_id, limit=10)
    versions = registry.versions(project_id, limit=VERSIONS)
    last = next((each for each in versions if each.verdict and each.project_id == project_id), None)
    comparison = compared(store.reconciliation_state(project_id))
    owner, since = made_champion(registry, project_id, champion)
    refused = serving.refused.get(owner)
    return Now(
        id=project_id,
        champion=champion.name if champion else None,
        since=since,
        serving=serving.of(project_id),
        refused=refused,
        drafts=_drafts(changes, champion),
        corrections=sum(each.corrections for each in changes),
        skipped=sum(each.skipped for each in changes),
        waiting=totals.waiting,
        behind_seconds=_behind_seconds(totals, champion) if follows(settings) else None,
        held_out=last.verdict["pairs"] if last and last.verdict else None,
        quarantined=sum(_new_lines(each) for each in store.manifests_in(project_id, REJECTED, DROPPED)),
        until_retrain=store.corrections_until_retrain(project_id, settings.retrain_every)
        if settings.retrain_every
        else None,
        training=progress.latest(retrains),
        verdict=verdict(registry, last) if last else None,
        queue=jobs,
        compared=comparison,
        troubles=troubles(store, project_id, retrains, comparison, refused, jobs),
    )


def whole(registry: Registry, project_id: int) -> Whole:
    store = registry.store
    versions = registry.versions(project_id, limit=VERSIONS)
    words = verdicts(registry, project_id, versions)
    return Whole(
        versions=[judged(*each) for each in zip(versions, words, strict=True)],
        drafts=by_version(store.draft_changes(project_id)),
        examples=examples(store, project_id),
    )


def queued(queue: Queue) -> dict[str, Any]:
    """Jobs by where they are, how many workers run, and how many of them take retrains and drafts; `failure` says why
    where Redis does not answer."""
    try:
        workers = {"workers": queue.alive(), "retrain": queue.alive(RETRAINS), "draft": queue.alive(DRAFTS)}
        return {**queue.depths(), **workers, "failure": None}
    except QueueError as error:
        return {"failure": str(error)}


def quarantined(version: ModelVersion) -> int:
    """How many corrected images a rejected version was the first to learn, so that later retrains leave them out."""
    return _new_lines(version.manifest) if version.manifest else 0


def _new_lines(manifest: Path) -> int:
    new = manifest.with_name(NEW)
    return _lines(new, stamp(new))


def stamp(path: Path) -> tuple[int, int] | None:
    """Time and size of the file, None where there is none: while they are the same, so is what it holds."""
    try:
        return (found := path.stat()).st_mtime_ns, found.st_size
    except OSError:
        return None


@lru_cache(maxsize=1000)
def _lines(path: Path, stamp: tuple[int, int] | None) -> int:
    """Lines of a file, counted once for each time and size: `captioner forget` writes it anew."""
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def follows(settings: Settings) -> bool:
    """Whether drafts that lie in Label Studio follow the corrections that come after them."""
    return bool(settings.reuse == "on" and settings.label_studio_url and settings.label_studio_api_key)


def _behind_seconds(totals: Totals, champion: ModelVersion | None) -> float:
    return (progress.seconds_since(totals.behind_since) or 0.0) if champion else 0.0


def made_champion(registry: Registry, project_id: int, champion: ModelVersion | None) -> tuple[int, datetime | None]:
    """Whose champion it is, the project's own or the default one, and since when it serves the project."""
    own, default = (next(iter(registry.moves(owner, limit=1)), None) for owner in (project_id, DEFAULT))
    if champion and own and own.version == champion.name:
        return project_id, own.moved_at
    if champion and default and default.version == champion.name:
        return DEFAULT, max(default.moved_at, own.moved_at) if own else default.moved_at
    return project_id, None


def _drafts(changes: Sequence[DraftChanges], champion: ModelVersion | None) -> Drafts | None:
    """Of the champion's drafts, or of all where none of its own has been corrected yet."""
    own = [each for each in changes if each.version and each.corrections and champion and each.version == champion.name]
    some = own or [each for each in changes if each.version and each.corrections]
    number, edits = sum(each.corrections for each in some), sum(each.word_edits for each in some)
    if not number:
        return None
    return Drafts(
        version=champion.name if own and champion else None,
        corrections=number,
        kept_share=sum(each.kept for each in some) / number,
        edits=edits / max(1, sum(each.words for each in some)),
        edits_a_draft=edits / number,
    )
