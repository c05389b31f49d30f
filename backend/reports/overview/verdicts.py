"""The verdict on a model version in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from backend.store.registry import DEFAULT, DROPPED, HELD, PASSED, REJECTED, RELEASED, ModelVersion, Registry
from training.errors import TrainingError
from training.gate.verdict import Verdict
from training.runtime.console import counted

Outcome = Literal["promoted", "passed", "held", "rejected", "not judged"]

MOVES = 100
"""Changes of the champion, the last ones, among which it is looked up whether a version has served."""

_QUARANTINED = {
    REJECTED: "What it was the first to learn is quarantined.",
    RELEASED: "What it was the first to learn has been released and may be learned again.",
    DROPPED: "What it was the first to learn is dropped for good.",
}


@dataclass(frozen=True)
class Words:
    """What became of the version, the scores behind that, and the gate's own sentence with all intervals."""

    version: str
    made_at: datetime
    outcome: Outcome
    headline: str
    figures: str = ""
    reason: str = ""

    @property
    def text(self) -> str:
        return f"{self.headline} {self.figures}".strip()


def verdict(registry: Registry, version: ModelVersion) -> Words:
    """In plain words; one that cannot be read says so."""
    return verdicts(registry, version.project_id or DEFAULT, [version])[0]


def verdicts(registry: Registry, project_id: int, versions: Iterable[ModelVersion]) -> list[Words]:
    """The same of several versions that may serve the project."""
    served = {move.version for move in registry.moves(project_id, limit=MOVES)}
    return [_words(version, version.name in served) for version in versions]


def _words(version: ModelVersion, served: bool) -> Words:
    name, made_at = version.name, version.created_at
    if version.verdict is None:
        return Words(name, made_at, "not judged", f"{name} was not judged by the gate.")
    try:
        found = Verdict.from_json(version.verdict)
    except TrainingError:
        return Words(name, made_at, "not judged", f"The verdict on {name} is of another release and cannot be read.")
    outcome, headline = _became(version, found, served)
    return Words(name, made_at, outcome, headline, _figures(version, found), found.reason)


def _became(version: ModelVersion, found: Verdict, served: bool) -> tuple[Outcome, str]:
    name, champion = version.name, version.parent or "the champion"
    if version.state in _QUARANTINED:
        worse = f"it is worse than {champion}" if found.candidate_score else "it does not do"
        return "rejected", f"{name} was rejected: {worse}. {_QUARANTINED[version.state]}"
    if version.state == HELD:
        undecided = f"too few captions tell whether it is better than {champion}"
        if version.parent is None:
            undecided = "it is too weak to serve as a first model"
        more = f" About {counted(found.more_pairs, 'more held-out caption')} would decide." if found.more_pairs else ""
        return "held", f"{name} was held: {undecided}.{more}"
    if found.rejects:  # while it served; its state stays
        return "rejected", f"{name} was promoted; judged again on more captions, it is worse than {champion}."
    if version.state == PASSED and version.project_id is not None and not served:
        return "passed", f"{name} passed, and waits for a person to promote it."
    better = f"it is at least as good as {champion}" if version.parent else "it is good enough for a first model"
    return "promoted", f"{name} was promoted: {better}."


def _figures(version: ModelVersion, found: Verdict) -> str:
    if found.candidate_score is None:
        return ""
    on = f"On {counted(found.pairs, 'held-out caption')} its BLEU-4 is {found.candidate_score.value:.1f}"
    if found.champion_score is not None:
        on += f", that of {version.parent or 'the champion'} {found.champion_score.value:.1f}"
    # A few captions reject only what is worse by an upper bound of its difference, too.
    few = found.provisional and version.state not in _QUARANTINED
    return f"{on}.{' So few say little yet.' if few else ''}"
