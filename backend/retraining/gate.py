"""The gate of a project: who votes on a candidate, and what it and the champion say of their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.settings import Settings
from training.captioner import checkpoint
from training.continual.mismatch import image_text_match, mismatch
from training.data import manifest
from training.data.manifest import Row
from training.evaluation.evaluate import evaluate
from training.gate import gate
from training.gate.evaluation_sets import Role
from training.gate.gate import EvaluationSet, Verdict
from training.vocabulary import tokenize

ROLES: dict[str, Role] = {manifest.HELD_OUT: gate.CORRECTIONS, manifest.BLIND: gate.BLIND}
BASE_ROWS = 500
"""Development images of the base that vote at most: each is captioned by both models."""
TRUSTED_ROWS = 500
"""Corrections that vote at most on whether new captions belong to their images: enough to be sure."""
SAME_KIND_SHARE = 0.8
"""Share of the words in corrections that a base must know to be asked about them."""


@dataclass(frozen=True)
class Contender:
    """A checkpoint under the name that verdicts call it by."""

    name: str
    folder: Path


class ProjectGate:
    """Frozen voting sets of a project; `verdict` asks them. `past` are the project's earlier verdicts."""

    def __init__(
        self,
        settings: Settings,
        project_id: int,
        corrected: Sequence[Row],
        base: Sequence[Row],
        past: Sequence[Verdict],
    ) -> None:
        self._settings, self._project_id, self._past = settings, project_id, past
        self.sets: dict[Role, list[Row]] = {}
        for row in corrected:
            if row.split in ROLES:
                self.sets.setdefault(ROLES[row.split], []).append(row)
        if base and _same_kind(corrected, base):
            # a fixed sample, so that a set that has been looked at stays the same
            self.sets[gate.BASE] = sorted(base, key=lambda row: manifest.split_position(row.sha256))[:BASE_ROWS]

    @property
    def pairs(self) -> int:
        """Held-out corrections, those without drafts among them."""
        return sum(len(rows) for role, rows in self.sets.items() if role != gate.BASE)

    def verdict(
        self,
        champion: Contender | None,
        candidate: Contender,
        tell: Callable[[int, int], None] | None = None,
        doubt: str | None = None,
    ) -> Verdict:
        """What becomes of the candidate; `tell` is told how many captions of how many there are, and a `doubt` about
        what it has learnt rejects it."""
        device, cache = self._settings.device, self._settings.data_dir / "features"
        learner = checkpoint.load(candidate.folder, device)
        decoding = learner.decoding  # the same for both, whatever the champion's own is
        contenders = [(candidate, learner)]
        if champion is not None:
            contenders.append((champion, checkpoint.load(champion.folder, device)))
        total, done = len(contenders) * sum(map(len, self.sets.values())), 0
        voting = []
        for role, rows in self.sets.items():
            found = []
            for contender, captioner in contenders:

                def told(captioned: int, _: int, before: int = done) -> None:
                    if tell:
                        tell(before + captioned, total)

                name = self._name(role)
                found.append(
                    evaluate(
                        captioner,
                        rows,
                        model=contender.name,
                        evaluation_set=name,
                        decoding=decoding,
                        cache_dir=cache,
                        progress=told,
                    )
                )
                done += len(rows)
            times = tuple(float(number) for number, _ in enumerate(rows))  # rows come in the order of annotation
            theirs = found[1] if champion is not None else None
            voting.append(EvaluationSet(role, found[0], theirs, self._looks(role, len(rows)), times))
        settings = self._settings
        return gate.judge(
            voting,
            policy=settings.gate_policy,
            margin=settings.gate_margin,
            floor=settings.gate_floor,
            mismatch=doubt,
        )

    def doubt(self, champion: Contender, new: Sequence[Row], tell: Callable[[int, int], None]) -> str | None:
        """Why the new captions seem to be those of other images, held against the corrections that vote."""
        voters = [row for role, rows in self.sets.items() if role != gate.BASE for row in rows]
        voters = sorted(voters, key=lambda row: row.sha256)[:TRUSTED_ROWS]
        if not new or not voters:
            return None
        captioner, cache = checkpoint.load(champion.folder, self._settings.device), self._settings.data_dir / "features"
        return mismatch(*(image_text_match(captioner, rows, cache, tell) for rows in (new, voters)))

    def _name(self, role: Role) -> str:
        return {
            gate.CORRECTIONS: f"held-out corrections of project {self._project_id}",
            gate.BLIND: f"blind tasks of project {self._project_id}",
            gate.BASE: "the base's development images",
        }[role]

    def _looks(self, role: Role, pairs: int) -> int:
        """Earlier verdicts on this set; as long as it had half of its pairs it counts as the same one."""
        roles = {role} if role == gate.BASE else {role, "pooled"}
        return sum(
            any(found.role in roles and 2 * found.pairs > pairs for found in verdict.sets)
            for verdict in self._past
            if not verdict.provisional
        )


def _same_kind(corrected: Sequence[Row], base: Sequence[Row]) -> bool:
    """Whether the base speaks of what the project is about: knows nearly all words of its corrections."""
    known = {word for row in base for text in row.references for word in tokenize(text)}
    words = [word for row in corrected for text in row.references for word in tokenize(text)]
    return bool(words) and sum(word in known for word in words) >= SAME_KIND_SHARE * len(words)
